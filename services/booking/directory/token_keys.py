import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.booking.models.users import token_keys
from services.kit.postgres.database import Database, Statement


class TokenKeyRepository:
    """The last good key set of auth, so that a process that starts while auth is down can verify tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> bytes | None:
        row = await self._database.fetchrow(_LOAD)
        return row["document"] if row else None

    async def save(self, document: bytes) -> None:
        async with self._database.connection() as connection:
            await _SAVE.execute(connection, document=document)


_LOAD = Statement(sa.select(token_keys.c.document))
_insert = insert(token_keys).values(
    id=sa.literal_column("1"), document=sa.bindparam("document", type_=token_keys.c.document.type)
)
_SAVE = Statement(
    _insert.on_conflict_do_update(
        index_elements=[token_keys.c.id],
        set_={"document": _insert.excluded.document, "saved_at": sa.func.now()},
    )
)
