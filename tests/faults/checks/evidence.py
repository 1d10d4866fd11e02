"""What the checks look at, and what they find."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import asyncpg
from redis.asyncio import Redis

from tests.faults.ledger import Operation

Harm = Literal["lost", "doubled"]

_NAMED = 5  # ids in the text of a finding


class Finding(NamedTuple):
    """`number` defects of one kind, the first of them named in `text`. `harm` is what they mean to a user."""

    check: str
    text: str
    number: int = 1
    harm: Harm | None = None


class Evidence(NamedTuple):
    """The ledger, the stores and the logs, when everything is quiet.

    `booking` and `auth` are superuser's connections that decode jsonb. `cuts`: the fault lay between clients and
    replicas, so that a client may have been left without an answer.
    """

    operations: Sequence[Operation]
    booking: asyncpg.Connection
    auth: asyncpg.Connection
    mongodb: Any
    redis: Redis
    logs: Mapping[str, str]
    cuts: bool = False


def findings(check: str, defect: str, things: Iterable[object], harm: Harm | None = None) -> list[Finding]:
    """Make one finding of all `things` that have the defect, or none."""
    found = [str(thing) for thing in things]
    if not found:
        return []
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [Finding(check, f"{defect}: {', '.join(found[:_NAMED])}{more}", len(found), harm)]
