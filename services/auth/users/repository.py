from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.audit.repository import AuditRepository
from services.auth.database import Repository
from services.auth.models import User, outbox, users
from services.auth.users.reads import GET_CALLER, caller_values, check_caller_row
from services.auth.users.schemas import Account
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserChange, UserState, UserUpdated
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.outbox import event_values, insert_event

A = TypeVar("A", bound=Account)
_insert_event = insert_event(outbox)


class UserRepository(Repository[User]):
    model_type = User

    async def check_caller(self, principal: Principal) -> None:
        """Check the caller after locks are taken, to see a suspension or revocation that committed meanwhile."""
        found = await self.session.execute(GET_CALLER, caller_values(principal))
        check_caller_row(principal, found.one_or_none())

    async def get_for_update(self, condition: sa.ColumnElement[bool], values: dict[str, Any]) -> User:
        """Return the one account of this condition, locked; raise `NotFound` if the caller sees none."""
        user: User | None = await self.session.scalar(sa.select(User).where(condition).with_for_update(), values)
        if user is None:
            raise NotFound
        return user

    async def own_for_update(self, principal: Principal) -> User:
        """Return the caller's account, locked, if their session and status still allow changes."""
        user = await self.get_for_update(users.id == principal.id, {})
        await self.check_caller(principal)
        return user

    async def announce(self, event: UserChange) -> None:
        """Write the changes so far, and the event about them."""
        await self.session.flush()
        values = event_values(
            event, event_id=uuid7(), aggregatetype="user", aggregateid=event.user.id, version=event.user.version
        )
        await self.session.execute(_insert_event, values)

    async def announce_update(self, user: User) -> None:
        """Write the changes so far as the account's next version, and the event about it."""
        user.version += 1
        await self.announce(UserUpdated(user=state_of(user)))


async def verify_address(transaction: AsyncSession, user: User, email: str) -> bool:
    """Note that the user has read a mail to `email`, which becomes the account's address if it was another.

    Returns whether that changed anything; only then the other services are told.
    """
    if user.email_verified_at is not None and user.email == email:
        return False
    action = "email.verified" if user.email == email else "email.changed"
    user.email, user.pending_email = email, None
    user.email_verified_at = sa.func.now()
    await UserRepository(transaction).announce_update(user)
    await AuditRepository(transaction).tell(action, user)
    return True


def schema_of(kind: type[A], user: User) -> A:
    """Return everything that the account's owner sees of it."""
    fields = {name: getattr(user, name) for name in kind.__struct_fields__}
    fields["time_zone"] = user.time_zone if user.time_zone_chosen else None
    if user.consultation_fee is not None:
        fields["consultation_fee"] = f"{user.consultation_fee:.2f}"
    return kind(**fields)


def state_of(user: User) -> UserState:
    return UserState(
        id=user.id,
        full_name=user.fullname,
        role=Role(user.role),
        status=UserStatus(user.status),
        time_zone=user.time_zone,
        time_zone_chosen=user.time_zone_chosen,
        locale=user.locale,
        email=user.email,
        version=user.version,
        erased=user.erased_at is not None,
        email_verified=user.email_verified_at is not None,
    )
