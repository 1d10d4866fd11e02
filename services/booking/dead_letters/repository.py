"""Events that could not be handled, stored as they arrived."""

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from services.booking.models.messages import dead_letters
from services.kit.postgres.database import Database, Statement
from services.kit.streams.events import DeadLetter


class KeptDeadLetter(DeadLetter, frozen=True, kw_only=True):
    id: UUID
    created_at: datetime


class DeadLetterRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, letter: DeadLetter) -> None:
        values = {name: getattr(letter, name) for name in _names}
        async with self._database.connection() as connection:
            await _ADD.execute(connection, id=uuid7(), **values)

    async def list(self) -> list[KeptDeadLetter]:
        """Return all dead letters, oldest first."""
        return [msgspec.convert(dict(row), KeptDeadLetter) for row in await self._database.fetch(_LIST)]

    async def remove(self, id: UUID) -> None:
        async with self._database.connection() as connection:
            await _REMOVE.execute(connection, id=id)

    async def forget(self, user_id: UUID) -> None:
        """Delete the events of an erased user: they would have no effect any more, and may hold a name."""
        async with self._database.connection() as connection:
            await _FORGET.execute(connection, user_id=str(user_id))


_names = DeadLetter.__struct_fields__
_ADD = Statement(
    insert(dead_letters)
    .values({name: sa.bindparam(name, type_=dead_letters.c[name].type) for name in ("id", *_names)})
    # An entry whose acknowledgement was lost is delivered again.
    .on_conflict_do_nothing()
)
_LIST = Statement(sa.select(dead_letters).order_by(dead_letters.c.id))
_REMOVE = Statement(sa.delete(dead_letters).where(dead_letters.c.id == sa.bindparam("id", type_=sa.Uuid)))
_FORGET = Statement(
    sa.delete(dead_letters).where(dead_letters.c.fields["aggregateid"].astext == sa.bindparam("user_id", type_=sa.Text))
)
