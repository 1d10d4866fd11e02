"""Events in the streams, as the relays append them, and the wait until a service has processed them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.contracts import events, streams
from services.contracts.enums import AppointmentStatus
from services.contracts.events import (
    AppointmentChange,
    AppointmentCreated,
    Event,
    MailRequested,
    SessionRevoked,
    UserChange,
    UserState,
)
from services.kit.streams.signatures import SIGNATURE, signature_of
from tests.support.issuer import Issuer
from tests.support.waiting import eventually

STARTS_AT = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)


def appointment(
    patient: UserState,
    doctor: UserState,
    kind: type[AppointmentChange] = AppointmentCreated,
    *,
    appointment_id: UUID | None = None,
    status: AppointmentStatus = AppointmentStatus.PENDING,
    version: int = 1,
    starts_at: datetime = STARTS_AT,
    **more: Any,
) -> Any:
    return kind(
        appointment_id=appointment_id or uuid7(),
        patient_id=patient.id,
        doctor_id=doctor.id,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=30),
        time_zone="UTC",
        status=status,
        version=version,
        **more,
    )


def entry(event: Event, event_id: UUID | None = None) -> dict[str, str]:
    if isinstance(event, UserChange):
        aggregate, version = event.user.id, event.user.version
    elif isinstance(event, MailRequested):
        aggregate, version = event.mail_id, 1
    elif isinstance(event, SessionRevoked):
        aggregate, version = event.session_id, 1
    else:
        assert isinstance(event, AppointmentChange)
        aggregate, version = event.appointment_id, event.version
    return {
        "id": str(event_id or uuid7()),
        "type": event.type,
        "aggregateid": str(aggregate),
        "version": str(version),
        "payload": events.encode(event).decode(),
        "created_at": datetime.now(UTC).isoformat(),
    }


def signed(fields: dict[str, str], issuer: Issuer) -> dict[str, str]:
    """Add the signature, as auth's relay does."""
    return fields | {SIGNATURE: signature_of(streams.USERS.name, fields, issuer.sign)}


class Streams:
    """Both streams of one Redis, with the groups that the relays create. `issuer` signs for auth."""

    def __init__(self, redis: Redis, issuer: Issuer) -> None:
        self.redis, self._issuer = redis, issuer

    @classmethod
    @asynccontextmanager
    async def of(cls, redis_url: str, issuer: Issuer) -> AsyncIterator[Self]:
        """Empty the Redis database and create both streams."""
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
            for stream in (streams.USERS, streams.APPOINTMENTS):
                for group in stream.groups:
                    await redis.xgroup_create(stream.name, group, "0", mkstream=True)
            yield cls(redis, issuer)

    async def put(self, stream: streams.Stream, fields: dict[str, str]) -> None:
        if stream is streams.USERS:
            fields = signed(fields, self._issuer)
        await self.redis.xadd(stream.name, fields)  # type: ignore[arg-type]

    async def tell(self, *to_append: Event, event_id: UUID | None = None) -> None:
        for event in to_append:
            stream = streams.APPOINTMENTS if isinstance(event, AppointmentChange) else streams.USERS
            await self.put(stream, entry(event, event_id))

    async def pending(self) -> int:
        """Count the entries that notification has not acknowledged yet, delivered or not."""
        total = 0
        for stream in (streams.USERS, streams.APPOINTMENTS):
            (group,) = [g for g in await self.redis.xinfo_groups(stream.name) if g["name"] == b"notification"]
            total += group["pending"] + group["lag"]
        return total

    async def settled(self) -> None:
        async def holds() -> bool:
            return await self.pending() == 0

        await eventually(holds)
