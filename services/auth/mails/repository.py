from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from services.auth.database import Repository
from services.auth.models import Mail, User, outbox, users
from services.contracts.enums import MailKind
from services.contracts.events import MailRequested
from services.kit.postgres.outbox import event_values, insert_event

# Mails that report a change of the account. Their link resets the password and takes the change back.
NOTICES = (MailKind.PASSWORD_CHANGED, MailKind.EMAIL_CHANGED, MailKind.MFA_ENABLED, MailKind.MFA_DISABLED)
LIFETIMES = {
    MailKind.PASSWORD_RESET: timedelta(hours=1),
    MailKind.VERIFY_EMAIL: timedelta(days=3),
    **dict.fromkeys(NOTICES, timedelta(days=7)),
}
_insert_event = insert_event(outbox)
# A mail can be used while the account still has, or still wants, the address that it was sent to; a notice also later,
# because a thief may have changed the address.
is_usable = sa.and_(
    Mail.id == sa.bindparam("mail", type_=sa.Uuid),
    Mail.used_at.is_(None),
    Mail.expires_at > sa.func.clock_timestamp(),
    users.id == Mail.user_id,
    sa.or_(
        users.email == Mail.email,
        sa.and_(users.pending_email == Mail.email, Mail.kind == sa.literal_column(f"'{MailKind.VERIFY_EMAIL}'")),
        Mail.kind.in_([sa.literal_column(f"'{kind}'") for kind in NOTICES]),
    ),
)


class UsedMail(NamedTuple):
    """`user` is locked; `email` is the address that the mail was sent to."""

    user: User
    email: str
    kind: MailKind
    requested_at: datetime


class MailRepository(Repository[Mail]):
    """Mails for notification to send. Their secrets are derived from their ids, never stored."""

    model_type = Mail

    async def request(self, user: User, kind: MailKind, email: str) -> None:
        mail = Mail(id=uuid7(), user_id=user.id, kind=kind, email=email)
        mail.expires_at = sa.func.now() + LIFETIMES[kind]
        await self.add(mail)
        await self.session.execute(_insert_event, mail_event_values(mail.id, kind))

    async def notify(self, user: User, kind: MailKind) -> None:
        """Report a change to the account's address, if its owner has verified it."""
        if user.email_verified_at is not None:
            await self.request(user, kind, user.email)

    async def use(self, id: UUID, *kinds: MailKind) -> UsedMail | None:
        """Spend the link of a mail of one of these kinds; return None if it cannot be used any more."""
        user_id = await self.session.scalar(sa.select(Mail.user_id).where(Mail.id == id))
        # Lock the account before the mail, as everywhere: otherwise two requests could wait for each other.
        user = await self.session.scalar(sa.select(User).where(User.id == user_id).with_for_update())
        used = (
            sa.update(Mail)
            .where(is_usable, Mail.kind.in_(kinds))
            .values(used_at=sa.func.clock_timestamp())
            .returning(Mail.email, Mail.kind, Mail.created_at)
            .execution_options(synchronize_session=False)
        )
        mail = (await self.session.execute(used, {"mail": id})).one_or_none()
        return (
            None if user is None or mail is None else UsedMail(user, mail.email, MailKind(mail.kind), mail.created_at)
        )

    async def void(
        self, user_id: UUID, *kinds: MailKind, since: datetime | None = None, email: str | None = None
    ) -> None:
        """End the unused links of these kinds, or of them those requested after `since`, or mailed to `email`."""
        later = [] if since is None else [Mail.created_at > since]
        to_address = [] if email is None else [Mail.email == email]
        await self.session.execute(
            sa.update(Mail)
            .where(Mail.user_id == user_id, Mail.kind.in_(kinds), Mail.used_at.is_(None), *later, *to_address)
            .values(used_at=sa.func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )


def mail_event_values(mail_id: UUID, kind: MailKind) -> dict[str, Any]:
    event = MailRequested(mail_id=mail_id, kind=kind)
    return event_values(event, event_id=uuid7(), aggregatetype="mail", aggregateid=mail_id, version=1)
