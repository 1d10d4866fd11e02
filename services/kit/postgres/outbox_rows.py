"""The relay's statements on the rows of an outbox.

Each search begins at the last number that is known to be done. PostgreSQL's indexes keep what was published or deleted
until VACUUM may remove it, which it may not while an older snapshot is held, as by `pg_dump`: a search from the
beginning would read all of that again, several times a second.
"""

from datetime import timedelta
from typing import Any

from services.kit.postgres.database import Connection
from services.kit.postgres.horizon import TRANSACTIONS, Horizon

COUNTED = 100_000


class OutboxRows:
    """The rows as `connection` sees them. A new connection may lead to another server, where nothing is known yet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._horizon = Horizon()
        self._published_through = self._deleted_through = 0

    async def lock(self, stream: str) -> bool:
        locked: bool = await self._connection.fetchval(_LOCK, stream)
        return locked

    async def are_waiting(self) -> bool:
        first, highest, oldest, next_ = await self._connection.fetchrow(_WAITING, self._published_through)
        self._horizon.observe(highest, oldest, next_)
        complete = self._horizon.complete if first is None else min(self._horizon.complete, first - 1)
        self._published_through = max(self._published_through, complete)
        return first is not None

    async def backlog(self) -> tuple[int, float]:
        """Return how many rows wait, of at most `COUNTED`, and the age of the oldest one."""
        depth, age = await self._connection.fetchrow(_BACKLOG, self._published_through)
        return depth, age

    async def position(self, stream: str) -> tuple[int, int]:
        """Return the number that every reader has acknowledged, and the highest number given."""
        acked_through, numbered = await self._connection.fetchrow(_POSITION, stream)
        return acked_through, numbered

    async def after(self, number: int, limit: int) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(_AFTER, number, limit)
        return rows

    async def give_numbers(self, after: int, limit: int) -> list[Any]:
        """Number the next rows that have no number, from `after` + 1, and return them."""
        rows: list[Any] = await self._connection.fetch(_NUMBER, after, limit, self._published_through)
        return rows

    async def advance(self, stream: str, acknowledged: int) -> int:
        """Store the number that every reader has acknowledged, and return it."""
        acked_through: int = await self._connection.fetchval(_ADVANCE, stream, acknowledged)
        return acked_through

    async def delete(self, acked_through: int, retention: timedelta, limit: int) -> int:
        """Delete the oldest rows that are acknowledged and older than `retention`; return how many of `limit`."""
        values = (acked_through, retention, limit, self._deleted_through)
        deleted, through = await self._connection.fetchrow(_DELETE, *values)
        self._deleted_through = max(self._deleted_through, through or 0)
        return int(deleted)


_COLUMNS = """
    outbox.stream_seq, outbox.id, type, aggregateid, version, payload::text AS payload, created_at, traceparent,
    request_id
"""
# Two-key locks are apart from the bigint keys that services lock by.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('outbox relay'), hashtext($1))"
_WAITING = f"""
    SELECT (SELECT seq FROM outbox WHERE stream_seq IS NULL AND seq > $1 ORDER BY seq LIMIT 1),
           coalesce((SELECT max(seq) FROM outbox), 0), oldest, next
    FROM ({TRANSACTIONS}) AS transactions
"""  # noqa: S608 # nosec B608
_BACKLOG = f"""
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
    FROM (
        SELECT created_at FROM outbox WHERE stream_seq IS NULL AND seq > $1 ORDER BY seq LIMIT {COUNTED}
    ) AS unpublished
"""  # noqa: S608 # nosec B608
_POSITION = """
    SELECT coalesce((SELECT acked_through FROM relay_state WHERE stream = $1), 0),
           coalesce((SELECT max(stream_seq) FROM outbox), 0)
"""
_AFTER = f"SELECT {_COLUMNS} FROM outbox WHERE stream_seq > $1 ORDER BY stream_seq LIMIT $2"  # noqa: S608 # nosec B608
_NUMBER = f"""
    WITH unpublished AS (SELECT id, seq FROM outbox WHERE stream_seq IS NULL AND seq > $3 ORDER BY seq LIMIT $2),
         numbered AS (SELECT id, $1::bigint + row_number() OVER (ORDER BY seq) AS number FROM unpublished)
    UPDATE outbox SET stream_seq = number FROM numbered WHERE outbox.id = numbered.id RETURNING {_COLUMNS}
"""  # noqa: S608 # nosec B608
# Never backwards: the groups of an emptied Redis start at 0, but what they acknowledged before is done.
_ADVANCE = """
    INSERT INTO relay_state AS state (stream, acked_through) VALUES ($1, $2)
    ON CONFLICT (stream) DO UPDATE SET acked_through = greatest(state.acked_through, excluded.acked_through)
    RETURNING acked_through
"""
# The oldest rows only: a scan by created_at would read a week of them every few seconds.
_DELETE = """
    WITH oldest AS (
        SELECT id, stream_seq, created_at < now() - $2::interval AS has_expired
        FROM outbox WHERE stream_seq > $4 AND stream_seq <= $1 ORDER BY stream_seq LIMIT $3
    ), deleted AS (DELETE FROM outbox USING oldest WHERE outbox.id = oldest.id AND has_expired)
    SELECT count(*) FILTER (WHERE has_expired),
           coalesce(min(stream_seq) FILTER (WHERE NOT has_expired) - 1, max(stream_seq))
    FROM oldest
"""
