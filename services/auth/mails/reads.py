from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from services.auth.mails.repository import LIFETIMES, is_usable, mail_event_values
from services.auth.models import Mail, outbox, users
from services.contracts.enums import MailKind
from services.kit.postgres.database import Database, Statement
from services.kit.postgres.outbox import insert_event

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
    ).where(is_usable)
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
# One statement whether or not the address has an account, so that the time tells nothing.
_request_reset = Statement(insert_event(outbox, for_each=_requested))


class MailReads:
    """Single statements on asyncpg, which need no SQLAlchemy session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, id: UUID) -> dict[str, Any] | None:
        """Return the fields of `contracts.mails.Mail` without the token; None for a mail that is used or expired."""
        row = await self._database.fetchrow(_get_mail, mail=id)
        return None if row is None else dict(row)

    async def request_reset(self, email: str) -> None:
        """Request a mail to the account of this address, if there is one."""
        mail_id, lifetime = uuid7(), LIFETIMES[MailKind.PASSWORD_RESET]
        values: dict[str, UUID | str | timedelta] = {"mail_id": mail_id, "email": email, "lifetime": lifetime}
        async with self._database.connection() as connection:
            await _request_reset.execute(connection, **values, **mail_event_values(mail_id, MailKind.PASSWORD_RESET))
