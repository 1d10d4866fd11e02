from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import ERASED_NAME, ERASED_PASSWORD, Mail, SecondFactor, Session, User, audit_log
from services.contracts.enums import UserStatus
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement
from services.kit.trail.entry import AuditEntry
from services.kit.trail.tables import entries_of

_EXPORTED = 1_000
_me = sa.bindparam("me", type_=sa.Uuid)


def _about(column: sa.Column[object]) -> sa.Select[tuple[object, ...]]:
    """By one index each: an OR of both would walk the whole trail."""
    latest = sa.select(audit_log).where(column == _me).order_by(audit_log.c.seq.desc()).limit(sa.literal_column("1000"))
    return sa.select(latest.subquery())


_own_entries = Statement(
    sa.union(_about(audit_log.c.actor_id), _about(audit_log.c.target_id))
    .order_by(sa.literal_column("seq").desc())
    .limit(sa.literal_column(str(_EXPORTED)))
)


class OwnTrail:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, principal: Principal) -> Sequence[AuditEntry]:
        """What somebody did and what was done to their account, the newest first."""
        return entries_of(await self._database.fetch(_own_entries, me=principal.id))


class ErasureRepository:
    """The end of an account, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def erase(self, user: User) -> None:
        """What is left of the row names nobody; a constraint of the table sees to it."""
        user.fullname, user.password_hash = ERASED_NAME, ERASED_PASSWORD
        user.email = f"{user.id}@erased.invalid"
        user.email_verified_at = user.phone = None
        user.speciality = user.experience = user.consultation_fee = None
        user.time_zone, user.locale = "UTC", "en"
        user.status = UserStatus.SUSPENDED
        user.erased_at = datetime.now(UTC)
        user.version += 1
        options = {"synchronize_session": False}
        # With the addresses that mails went to.
        await self._session.execute(sa.delete(Mail).where(Mail.user_id == user.id), execution_options=options)
        await self._session.execute(
            sa.delete(SecondFactor).where(SecondFactor.user_id == user.id), execution_options=options
        )
        devices = sa.update(Session).where(Session.user_id == user.id).values(user_agent=None)
        await self._session.execute(devices, execution_options=options)
