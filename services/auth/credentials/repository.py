from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.models import Mail, User, outbox, users
from services.contracts import mails as contract
from services.contracts.enums import MailKind
from services.contracts.events import MailRequested
from services.kit.postgres.database import Database, Statement
from services.kit.postgres.outbox import event_values, insert_event

_LIFETIMES = {MailKind.PASSWORD_RESET: timedelta(hours=1), MailKind.VERIFY_EMAIL: timedelta(days=3)}
_append = insert_event(outbox)
# Only while the account has the address that it was sent to.
_usable = sa.and_(
    Mail.id == sa.bindparam("mail", type_=sa.Uuid),
    Mail.used_at.is_(None),
    Mail.expires_at > sa.func.clock_timestamp(),
    users.id == Mail.user_id,
    users.email == Mail.email,
)
_get_mail = Statement(
    sa.select(
        Mail.id,
        Mail.kind,
        Mail.user_id,
        Mail.email,
        Mail.expires_at,
        users.fullname.label("full_name"),
        users.locale,
        users.time_zone,
    ).where(_usable)
)
_requested = (
    sa.insert(Mail)
    .from_select(
        ["id", "user_id", "kind", "email", "expires_at"],
        sa.select(
            sa.bindparam("mail_id", type_=sa.Uuid),
            users.id,
            sa.literal_column(f"'{MailKind.PASSWORD_RESET}'"),
            users.email,
            sa.func.now() + sa.bindparam("lifetime", type_=sa.Interval),
        ).where(users.email == sa.bindparam("email", type_=sa.Text)),
        include_defaults=False,
    )
    .returning(Mail.id)
    .cte("requested")
)
# One statement whether or not there is such an account: who measures it learns nothing.
_request_reset = Statement(insert_event(outbox, for_each=_requested))
_forget_expired = Statement(sa.delete(Mail).where(Mail.expires_at < sa.func.now()))


class CredentialReads:
    """What needs no transaction of its own kind: single statements on asyncpg."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_mail(self, id: UUID) -> dict[str, Any] | None:
        """The fields of `contracts.mails.Mail` but for the token; None once it was used or has expired."""
        row = await self._database.fetchrow(_get_mail, mail=id)
        return None if row is None else dict(row)

    async def request_reset(self, email: str) -> None:
        """A mail to the account of this address, where there is one."""
        mail_id = uuid7()
        async with self._database.connection() as connection:
            await _request_reset.execute(
                connection,
                mail_id=mail_id,
                email=email,
                lifetime=_LIFETIMES[MailKind.PASSWORD_RESET],
                **_event_of(mail_id, MailKind.PASSWORD_RESET),
            )

    async def forget_expired(self) -> None:
        async with self._database.connection() as connection:
            await _forget_expired.execute(connection)


class MailRepository:
    """Mails that auth wants sent, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def request_verification(self, user: User) -> None:
        kind = MailKind.VERIFY_EMAIL
        mail = Mail(id=uuid7(), user_id=user.id, kind=kind, email=user.email)
        mail.expires_at = sa.func.now() + _LIFETIMES[kind]
        self._session.add(mail)
        await self._session.flush()
        await self._session.execute(_append, _event_of(mail.id, kind))

    async def use(self, id: UUID, kind: MailKind) -> User | None:
        """The user of a link, locked; None when the link is not, or no longer, good."""
        user_id = await self._session.scalar(sa.select(Mail.user_id).where(Mail.id == id))
        # The account before the mail, as everywhere: the other way round two requests could wait for each other.
        user = await self._session.scalar(sa.select(User).where(User.id == user_id).with_for_update())
        used = (
            sa.update(Mail)
            .where(_usable, Mail.kind == kind)
            .values(used_at=sa.func.clock_timestamp())
            .returning(Mail.id)
            .execution_options(synchronize_session=False)
        )
        return user if await self._session.scalar(used, {"mail": id}) else None

    async def void(self, user_id: UUID) -> None:
        """Links to a new password that are still on their way lose their power."""
        await self._session.execute(
            sa.update(Mail)
            .where(Mail.user_id == user_id, Mail.kind == MailKind.PASSWORD_RESET, Mail.used_at.is_(None))
            .values(used_at=sa.func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )


def _event_of(mail_id: UUID, kind: MailKind) -> dict[str, Any]:
    event = MailRequested(mail_id=mail_id, kind=kind)
    return event_values(event, event_id=uuid7(), aggregatetype="mail", aggregateid=mail_id, version=1)


def content(fields: dict[str, Any], token: str) -> contract.Mail:
    return contract.Mail(**{**fields, "kind": MailKind(fields["kind"])}, token=token)
