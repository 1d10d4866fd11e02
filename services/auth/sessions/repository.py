from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from services.auth.audit.repository import AuditRepository
from services.auth.database import Repository
from services.auth.models import RefreshToken, Session, User, outbox
from services.auth.sessions.keys import LONGEST_VALID_SECONDS
from services.contracts.events import SessionRevoked
from services.kit.auth import Principal
from services.kit.postgres.outbox import event_values, insert_event
from services.kit.trail.entry import entry

_insert_event = insert_event(outbox)


class SessionRepository(Repository[Session]):
    """Sessions and their refresh tokens. Every time is the database's."""

    model_type = Session

    async def get_user_for_login(self, id: UUID) -> User:
        """Return the user, locked, so that a change of the password either comes first and shows, or ends the session
        that is added.
        """
        return await self.session.get_one(User, id, with_for_update={"key_share": True})

    async def replace_password_hash(self, user_id: UUID, old: str, new: str) -> None:
        """Store a stronger hash of the same password; do nothing if the password was changed meanwhile."""
        await self.session.execute(
            sa.update(User)
            .where(User.id == user_id, User.password_hash == old)
            .values(password_hash=new, updated_at=User.updated_at)
        )

    async def open(self, opened: Session, lifetime: timedelta, token_hash: bytes) -> None:
        opened.expires_at = sa.func.now() + lifetime
        await self.add(opened)
        await self.add_token(opened.id, token_hash)

    async def add_token(self, session_id: UUID, token_hash: bytes) -> None:
        self.session.add(RefreshToken(session_id=session_id, token_hash=token_hash))
        await self.session.flush()

    async def find_token_for_update(self, token_hash: bytes) -> RefreshToken | None:
        """Return the token, locked: two requests with the same one take turns."""
        query = sa.select(RefreshToken).where(RefreshToken.token_hash == token_hash).with_for_update()
        return await self.session.scalar(query)

    async def find_live(self, session_id: UUID) -> tuple[Session, User] | None:
        """Return the session with its user, unless it has expired or was revoked."""
        query = (
            sa.select(Session, User)
            .join(User, User.id == Session.user_id)
            .where(
                Session.id == session_id,
                Session.revoked_at.is_(None),
                Session.expires_at > sa.func.clock_timestamp(),
            )
        )
        row = (await self.session.execute(query)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def is_spent(self, token_hash: bytes) -> bool:
        query = sa.select(RefreshToken.rotated_at.is_not(None)).where(RefreshToken.token_hash == token_hash)
        return bool(await self.session.scalar(query))

    async def rotated_within(self, token: RefreshToken, period: timedelta) -> bool:
        query = sa.select(RefreshToken.rotated_at > sa.func.clock_timestamp() - period)
        return bool(await self.session.scalar(query.where(RefreshToken.id == token.id)))

    async def spend(self, token: RefreshToken, session: Session) -> None:
        token.rotated_at = session.last_used_at = sa.func.clock_timestamp()
        await self.session.flush()

    async def revoke(
        self,
        user_id: UUID,
        *,
        session: UUID | None = None,
        except_session: UUID | None = None,
        actor: Principal | None = None,
    ) -> int:
        """End a user's sessions: all, one, or all except one; return how many had not ended before.

        `actor` is None if it was the holder of a link or token. Each end is announced, because the other services
        accept the session's access tokens until they expire.
        """
        ended = sa.update(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None))
        if session is not None:
            ended = ended.where(Session.id == session)
        if except_session is not None:
            ended = ended.where(Session.id != except_session)
        ended = ended.values(revoked_at=sa.func.clock_timestamp())
        options = {"synchronize_session": False}
        ids = (await self.session.scalars(ended.returning(Session.id), execution_options=options)).all()
        expires_at = datetime.now(UTC) + timedelta(seconds=LONGEST_VALID_SECONDS)
        events = [SessionRevoked(session_id=id, user_id=user_id, expires_at=expires_at) for id in ids]
        if events:
            values = [
                event_values(event, event_id=uuid7(), aggregatetype="session", aggregateid=event.session_id, version=1)
                for event in events
            ]
            await self.session.execute(_insert_event, values)
            ended_by = [entry("session.ended", actor=actor, target_type="session", target_id=id) for id in ids]
            await AuditRepository(self.session).record(*ended_by)
        return len(ids)
