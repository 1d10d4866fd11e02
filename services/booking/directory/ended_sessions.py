"""Sessions that ended before their time, kept until the last of their access tokens has expired."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.booking.models.users import revoked_sessions
from services.contracts.events import SessionRevoked
from services.kit.postgres.database import Database, Statement


class EndedSessionRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, event: SessionRevoked) -> None:
        async with self._database.connection() as connection:
            await _ADD.execute(connection, session_id=event.session_id, expires_at=event.expires_at)


_ADD = Statement(
    insert(revoked_sessions)
    .values({column.name: sa.bindparam(column.name, type_=column.type) for column in revoked_sessions.c})
    .on_conflict_do_nothing()
)
