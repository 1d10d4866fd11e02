from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import RefreshToken, Session, User, users
from services.kit.database import Database, Statement

_find_login = Statement(
    sa.select(users.id, users.role, users.password_hash).where(
        sa.func.lower(users.email) == sa.func.lower(sa.bindparam("email", type_=sa.Text))
    )
)
_forget_expired = Statement(sa.delete(Session).where(Session.expires_at < sa.func.now()))


class LoginRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, email: str) -> tuple[UUID, str, str] | None:
        """Id, role and password hash."""
        row = await self._database.fetchrow(_find_login, email=email)
        return None if row is None else (row["id"], row["role"], row["password_hash"])

    async def forget_expired(self) -> None:
        async with self._database.connection() as connection:
            await _forget_expired.execute(connection)


class SessionRepository:
    """Sessions and their refresh tokens, in the transaction of `session`. Time is the database's."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_user(self, id: UUID) -> User:
        return await self._session.get_one(User, id)

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

    async def spend(self, token: RefreshToken) -> None:
        token.rotated_at = sa.func.clock_timestamp()
        await self._session.flush()

    async def revoke(self, session: Session) -> None:
        session.revoked_at = sa.func.clock_timestamp()
        await self._session.flush()
