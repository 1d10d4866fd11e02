from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.audit.repository import AuditRepository
from services.auth.models import RefreshToken, Session, User, outbox, users
from services.auth.sessions.keys import LONGEST_VALID_SECONDS
from services.auth.sessions.schemas import OwnSession
from services.contracts.events import SessionRevoked
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement
from services.kit.postgres.outbox import event_values, insert_event
from services.kit.trail.entry import entry

_find_login = Statement(
    sa.select(users.id, users.role, users.password_hash).where(users.email == sa.bindparam("email", type_=sa.Text))
)
_forget_expired = Statement(sa.delete(Session).where(Session.expires_at < sa.func.now()))
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
_append = insert_event(outbox)


class LoginRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, email: str) -> tuple[UUID, str, str] | None:
        """Id, role and password hash."""
        row = await self._database.fetchrow(_find_login, email=email)
        return None if row is None else (row["id"], row["role"], row["password_hash"])

    async def list_sessions(self, principal: Principal, *, limit: int, before: UUID | None) -> Sequence[OwnSession]:
        """The caller's that still live, the newest first."""
        values = {"user_id": principal.id, "current": principal.session_id, "before": before, "limit": limit}
        return [OwnSession(**row) for row in await self._database.fetch(_list_live, **values)]

    async def forget_expired(self) -> None:
        async with self._database.connection() as connection:
            await _forget_expired.execute(connection)


class SessionRepository:
    """Sessions and their refresh tokens, in the transaction of `session`. Time is the database's."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_user_for_login(self, id: UUID) -> User:
        """Locked, so that a change of the password either comes first and shows, or ends the session that is added."""
        return await self._session.get_one(User, id, with_for_update={"key_share": True})

    async def replace_password_hash(self, id: UUID, old: str, new: str) -> None:
        # Not a change that anybody is to hear of, and void if the password itself was changed meanwhile.
        await self._session.execute(
            sa.update(User)
            .where(User.id == id, User.password_hash == old)
            .values(password_hash=new, updated_at=User.updated_at)
        )

    async def add(self, opened: Session, lifetime: timedelta, token_hash: bytes) -> None:
        opened.expires_at = sa.func.now() + lifetime
        self._session.add(opened)
        await self._session.flush()
        await self.add_token(opened.id, token_hash)

    async def add_token(self, session_id: UUID, token_hash: bytes) -> None:
        self._session.add(RefreshToken(session_id=session_id, token_hash=token_hash))
        await self._session.flush()

    async def find_token_for_update(self, token_hash: bytes) -> RefreshToken | None:
        """Two requests with the same token take turns."""
        query = sa.select(RefreshToken).where(RefreshToken.token_hash == token_hash).with_for_update()
        return await self._session.scalar(query)

    async def find_live(self, session_id: UUID) -> tuple[Session, User] | None:
        """The session, unless it has expired or was revoked, with its user."""
        query = (
            sa.select(Session, User)
            .join(User, User.id == Session.user_id)
            .where(
                Session.id == session_id,
                Session.revoked_at.is_(None),
                Session.expires_at > sa.func.clock_timestamp(),
            )
        )
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def is_spent(self, token_hash: bytes) -> bool:
        query = sa.select(RefreshToken.rotated_at.is_not(None)).where(RefreshToken.token_hash == token_hash)
        return bool(await self._session.scalar(query))

    async def rotated_within(self, token: RefreshToken, period: timedelta) -> bool:
        query = sa.select(RefreshToken.rotated_at > sa.func.clock_timestamp() - period)
        return bool(await self._session.scalar(query.where(RefreshToken.id == token.id)))

    async def spend(self, token: RefreshToken, session: Session) -> None:
        token.rotated_at = session.last_used_at = sa.func.clock_timestamp()
        await self._session.flush()

    async def revoke(
        self, user_id: UUID, *, only: UUID | None = None, but: UUID | None = None, actor: Principal | None = None
    ) -> int:
        """End a user's sessions: all of them, one, or all but one; gives the number of those that had not ended yet.
        `actor` is who wants it, None where there is nobody but the holder of some link or token.

        Each is announced, because the other services take its access tokens until they expire.
        """
        ended = sa.update(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None))
        if only is not None:
            ended = ended.where(Session.id == only)
        if but is not None:
            ended = ended.where(Session.id != but)
        ended = ended.values(revoked_at=sa.func.clock_timestamp())
        options = {"synchronize_session": False}
        ids = (await self._session.scalars(ended.returning(Session.id), execution_options=options)).all()
        expires_at = datetime.now(UTC) + timedelta(seconds=LONGEST_VALID_SECONDS)
        events = [SessionRevoked(session_id=id, user_id=user_id, expires_at=expires_at) for id in ids]
        if events:
            values = [
                event_values(event, event_id=uuid7(), aggregatetype="session", aggregateid=event.session_id, version=1)
                for event in events
            ]
            await self._session.execute(_append, values)
            ended_by = [entry("session.ended", actor=actor, target_type="session", target_id=id) for id in ids]
            await AuditRepository(self._session).add(*ended_by)
        return len(ids)
