"""What a consumer hands to its service: an event in its envelope, or a dead letter."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

E = TypeVar("E")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Envelope(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """An event with the outbox's metadata. A repeated delivery has the same `id`, but may have another `entry_id`."""

    entry_id: str
    id: UUID
    type: str
    aggregate_id: str
    version: int
    event: E
    traceparent: str | None
    request_id: str | None
    created_at: datetime


Reason = Literal["undecodable", "forged", "failing"]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that cannot be handled. A replay passes its `entry_id` and `fields` to `decode_entry`.

    The fields are unchanged, except that bytes which are no text for a database are escaped.
    """

    stream: str
    group: str
    entry_id: str
    reason: Reason
    error: str
    fields: dict[str, str]


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    type: str
    aggregateid: str
    version: int
    payload: str
    created_at: datetime
    traceparent: str | None = None
    request_id: str | None = None


def decode_entry(entry_id: str, fields: Mapping[str, str], decode: Callable[[str], E]) -> Envelope[E]:
    """Raise msgspec's errors, or those of `decode`, for an entry that is malformed."""
    entry = msgspec.convert(fields, _Entry, strict=False)
    trace, request = entry.traceparent, entry.request_id
    return Envelope(
        entry_id=entry_id,
        id=entry.id,
        type=entry.type,
        aggregate_id=entry.aggregateid,
        version=entry.version,
        event=decode(entry.payload),
        traceparent=trace if trace and _TRACEPARENT.fullmatch(trace) else None,
        request_id=request if request and _REQUEST_ID.fullmatch(request) else None,
        created_at=entry.created_at,
    )


def storable(raw: bytes) -> str:
    """Decode to text that PostgreSQL can store: it refuses NUL, and storing the dead letter would fail for ever."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


class EventMetrics:
    """The metrics of all consumers of a service. Handlers count in `duplicates` the repetitions that they notice."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "events_handled_total", "Attempts at events", ["stream", "type", "outcome"], registry=registry
        )
        self.dead_letters = Counter("events_dead_letters_total", "Dead letters", ["stream"], registry=registry)
        self.duplicates = Counter("events_duplicates_total", "Events seen before", ["stream"], registry=registry)
        self.lag = Gauge("events_lag", "Entries not yet delivered", ["stream"], registry=registry)
        self.pending = Gauge("events_pending", "Entries delivered, not acknowledged", ["stream"], registry=registry)
