from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.booking.models.users import users
from services.contracts.events import UserState
from services.kit.postgres.database import Database, Statement

ERASED = "ERASED"
_COLUMNS = ("id", "role", "status", "full_name", "time_zone", "email_verified", "version")


class UserRepository:
    """The projection of auth's users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, user: UserState) -> None:
        """Store a state that is newer than the stored one, or completes it.

        An erased user has no role, so every write refuses them.
        """
        values = {name: getattr(user, name) for name in _COLUMNS}
        if user.erased:
            values["role"] = ERASED
        async with self._database.connection() as connection:
            await _STORE.execute(connection, **values)

    async def known(self, user_ids: Collection[UUID]) -> set[UUID]:
        """Return those of the ids that have a row."""
        return {row["id"] for row in await self._database.fetch(_KNOWN, ids=list(user_ids))}

    async def is_newly_suspended(self, user: UserState) -> bool:
        """Tell whether the user is suspended, and neither this suspension nor a later one has been settled."""
        return await self._database.fetchrow(_NEWLY_SUSPENDED, id=user.id, suspension=user.version) is not None

    async def settle_suspension(self, user: UserState) -> None:
        async with self._database.connection() as connection:
            await _SETTLE.execute(connection, id=user.id, suspension=user.version)


_insert = insert(users).values({name: sa.bindparam(name, type_=users.c[name].type) for name in _COLUMNS})
_STORE = Statement(
    _insert.on_conflict_do_update(
        index_elements=[users.c.id],
        set_={name: _insert.excluded[name] for name in _COLUMNS if name != "id"},
        where=sa.or_(
            users.c.version < _insert.excluded.version,
            # Stored by a release that did not have the column: `republish` sends the same version again.
            sa.and_(users.c.version == _insert.excluded.version, users.c.email_verified.is_(None)),
        ),
    )
)
_KNOWN = Statement(sa.select(users.c.id).where(users.c.id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid)))))
_suspension = sa.bindparam("suspension", type_=sa.Integer)
_of_user = sa.and_(users.c.id == sa.bindparam("id", type_=sa.Uuid), users.c.suspension_version < _suspension)
_NEWLY_SUSPENDED = Statement(sa.select(users.c.id).where(_of_user, users.c.status == sa.literal_column("'SUSPENDED'")))
_SETTLE = Statement(sa.update(users).where(_of_user).values(suspension_version=_suspension))
