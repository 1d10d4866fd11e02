from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import ERASED_NAME, ERASED_PASSWORD, Mail, SecondFactor, Session, User
from services.contracts.enums import UserStatus


class Erasure:
    """The end of an account, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def forget(self, user: User) -> None:
        """Leave a row that names nobody, which a constraint of the table checks."""
        user.fullname, user.password_hash = ERASED_NAME, ERASED_PASSWORD
        user.email = f"{user.id}@erased.invalid"
        user.email_verified_at = user.pending_email = user.phone = None
        user.speciality = user.experience = user.consultation_fee = None
        user.time_zone, user.locale = "UTC", "en"
        user.status = UserStatus.SUSPENDED
        user.erased_at = datetime.now(UTC)
        user.version += 1
        options = {"synchronize_session": False}
        # The rows of mails hold the addresses that they were sent to.
        for table in (Mail, SecondFactor):
            await self._session.execute(sa.delete(table).where(table.user_id == user.id), execution_options=options)
        without_devices = sa.update(Session).where(Session.user_id == user.id).values(user_agent=None)
        await self._session.execute(without_devices, execution_options=options)
