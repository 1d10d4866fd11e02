from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from services.auth.models import Session, users
from services.auth.sessions.schemas import OwnSession
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement

_find_login = Statement(
    sa.select(users.id, users.role, users.password_hash).where(users.email == sa.bindparam("email", type_=sa.Text))
)
_list_live = Statement(
    sa.select(
        Session.id,
        Session.created_at,
        Session.last_used_at,
        Session.expires_at,
        Session.user_agent,
        (Session.id == sa.bindparam("current", type_=sa.Uuid)).label("current"),
    )
    .where(
        Session.user_id == sa.bindparam("user_id", type_=sa.Uuid),
        Session.revoked_at.is_(None),
        Session.expires_at > sa.func.now(),
        sa.or_(sa.bindparam("before", type_=sa.Uuid).is_(None), Session.id < sa.bindparam("before", type_=sa.Uuid)),
    )
    .order_by(Session.id.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


class SessionReads:
    """Single statements on asyncpg, which need no SQLAlchemy session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_login(self, email: str) -> tuple[UUID, str, str] | None:
        """Return the account's id, role and password hash."""
        row = await self._database.fetchrow(_find_login, email=email)
        return None if row is None else (row["id"], row["role"], row["password_hash"])

    async def list(self, principal: Principal, *, limit: int, before: UUID | None) -> Sequence[OwnSession]:
        """Return the caller's live sessions, the newest first, those before the id `before`."""
        values = {"user_id": principal.id, "current": principal.session_id, "before": before, "limit": limit}
        return [OwnSession(**row) for row in await self._database.fetch(_list_live, **values)]
