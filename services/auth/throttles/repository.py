from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.auth.models import THROTTLES_KEPT, throttles
from services.kit.postgres.database import Database, Statement

# The first pause is 1 s and doubles with each failure; 2^20 s is beyond the longest of every limit.
_MOST_DOUBLINGS = 20


class Limit(NamedTuple):
    """`free` failures have no pause; each one after them has, of at most `longest_seconds`."""

    scope: str
    free: int
    longest_seconds: int


class Key(NamedTuple):
    limit: Limit
    subject: bytes


_now = sa.func.clock_timestamp()
_kept: sa.ColumnElement[timedelta] = sa.literal_column(f"interval '{THROTTLES_KEPT.total_seconds()} seconds'")
_count = sa.case((throttles.c.blocked_until < _now - _kept, 1), else_=throttles.c.count + 1)
_free, _longest = sa.bindparam("free", type_=sa.Integer), sa.bindparam("longest", type_=sa.Integer)
_pause = sa.case(
    (_count < _free, 0), else_=sa.func.least(_longest, sa.func.power(2, sa.func.least(_count - _free, _MOST_DOUBLINGS)))
)
# Atomic under the row's lock, for all replicas. During a pause it returns no row and makes the pause no longer.
_fail = Statement(
    insert(throttles)
    .values(
        scope=sa.bindparam("scope", type_=sa.Text),
        subject=sa.bindparam("subject", type_=sa.LargeBinary),
        count=sa.literal_column("1"),
        blocked_until=_now,
    )
    .on_conflict_do_update(
        index_elements=[throttles.c.scope, throttles.c.subject],
        set_={"count": _count, "blocked_until": _now + _pause * sa.text("interval '1 second'")},
        where=throttles.c.blocked_until <= _now,
    )
    .returning(throttles.c.count)
)
_keys = (
    sa.func.unnest(
        sa.bindparam("scopes", type_=sa.ARRAY(sa.Text)), sa.bindparam("subjects", type_=sa.ARRAY(sa.LargeBinary))
    )
    .table_valued("scope", "subject", name="keys")
    .render_derived()
)
_of_keys = sa.and_(throttles.c.scope == _keys.c.scope, throttles.c.subject == _keys.c.subject)
_remaining = Statement(
    sa.select(sa.cast(sa.func.ceil(sa.func.max(sa.extract("epoch", throttles.c.blocked_until - _now))), sa.Integer))
    .select_from(throttles)
    .join(_keys, _of_keys)
    .where(throttles.c.blocked_until > _now)
)
_forget = Statement(
    sa.delete(throttles).where(
        throttles.c.scope == sa.bindparam("scope", type_=sa.Text),
        throttles.c.subject == sa.bindparam("subject", type_=sa.LargeBinary),
    )
)


class ThrottleRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def remaining(self, keys: Sequence[Key]) -> int:
        """Return the seconds until none of the keys is blocked, 0 if none is."""
        scopes, subjects = [key.limit.scope for key in keys], [key.subject for key in keys]
        row = await self._database.fetchrow(_remaining, scopes=scopes, subjects=subjects)
        return row[0] or 0

    async def fail(self, key: Key) -> bool:
        """Count a failure; return False, and count nothing, if the key is blocked."""
        limit = key.limit
        row = await self._database.fetchrow(
            _fail, scope=limit.scope, subject=key.subject, free=limit.free, longest=limit.longest_seconds
        )
        return row is not None

    async def forget(self, key: Key) -> None:
        async with self._database.connection() as connection:
            await _forget.execute(connection, scope=key.limit.scope, subject=key.subject)
