from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.booking.models import dead_letters, revoked_sessions, users
from services.contracts.events import SessionRevoked, UserState
from services.kit.postgres.database import Database, Statement

_COLUMNS = ("id", "role", "status", "full_name", "time_zone", "version")


ERASED = "ERASED"


class UserRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, user: UserState) -> None:
        """Older than what is known, or the same: nothing happens. An erased user has no role: nobody books with them,
        and they do nothing.
        """
        values = {name: getattr(user, name) for name in _COLUMNS}
        if user.erased:
            values["role"] = ERASED
        async with self._database.connection() as connection:
            await _STORE.execute(connection, **values)

    async def forget_dead_letters(self, user_id: UUID) -> None:
        """Older news of somebody erased, which would be of no effect, and may have a name."""
        async with self._database.connection() as connection:
            await _FORGET_DEAD_LETTERS.execute(connection, user_id=str(user_id))

    async def known(self, user_ids: Collection[UUID]) -> set[UUID]:
        """Those who have a row."""
        return {row["id"] for row in await self._database.fetch(_KNOWN, ids=list(user_ids))}

    async def is_newly_suspended(self, user: UserState) -> bool:
        """Whether the user is suspended, and neither this suspension nor a later one was settled yet."""
        return await self._database.fetchrow(_NEWLY_SUSPENDED, id=user.id, suspension=user.version) is not None

    async def settle_suspension(self, user: UserState) -> None:
        async with self._database.connection() as connection:
            await _SETTLE.execute(connection, id=user.id, suspension=user.version)

    async def revoke_session(self, event: SessionRevoked) -> None:
        async with self._database.connection() as connection:
            await _REVOKE_SESSION.execute(connection, session_id=event.session_id, expires_at=event.expires_at)

    async def forget_expired_sessions(self) -> None:
        """Those whose access tokens have expired by themselves."""
        async with self._database.connection() as connection:
            await _FORGET_SESSIONS.execute(connection)


_values = {name: sa.bindparam(name, type_=users.c[name].type) for name in _COLUMNS}
_insert = insert(users).values(_values)
_STORE = Statement(
    _insert.on_conflict_do_update(
        index_elements=[users.c.id],
        set_={name: _insert.excluded[name] for name in _COLUMNS if name != "id"},
        where=users.c.version < _insert.excluded.version,
    )
)
_FORGET_DEAD_LETTERS = Statement(
    sa.delete(dead_letters).where(dead_letters.c.fields["aggregateid"].astext == sa.bindparam("user_id", type_=sa.Text))
)
_KNOWN = Statement(sa.select(users.c.id).where(users.c.id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid)))))
_suspension = sa.bindparam("suspension", type_=sa.Integer)
_of_user = sa.and_(users.c.id == sa.bindparam("id", type_=sa.Uuid), users.c.suspension_version < _suspension)
_NEWLY_SUSPENDED = Statement(sa.select(users.c.id).where(_of_user, users.c.status == sa.literal_column("'SUSPENDED'")))
_SETTLE = Statement(sa.update(users).where(_of_user).values(suspension_version=_suspension))
_REVOKE_SESSION = Statement(
    insert(revoked_sessions)
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in revoked_sessions.c})
    .on_conflict_do_nothing()
)
_FORGET_SESSIONS = Statement(sa.delete(revoked_sessions).where(revoked_sessions.c.expires_at < sa.func.now()))
