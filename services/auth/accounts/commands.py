"""What the command lines do to accounts, beside a running service."""

import msgspec
import sqlalchemy as sa
from uuid_utils.compat import uuid7

from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.models import User
from services.auth.users.passwords import Passwords
from services.auth.users.repository import UserRepository, state_of
from services.auth.users.schemas import Email, Password
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserRegistered, UserUpdated
from services.kit.metrics import create_registry
from services.kit.schema import Line, normalize_fields

_BATCH = 100


class NewAdmin(msgspec.Struct, frozen=True, kw_only=True):
    email: Email
    password: Password
    fullname: Line = "Administrator"

    def __post_init__(self) -> None:
        normalize_fields(self)


async def create_admin(database_url: str, admin: NewAdmin) -> bool:
    """Create the account; return False if this address is already an admin's, whose password then stays.

    Raises `EmailTaken` if it is a patient's or a doctor's.
    """
    transactions = Transactions(database_url, max_connections=1)
    try:
        async with transactions.begin() as session:
            if await session.scalar(sa.select(User.role).where(User.email == admin.email)) == Role.ADMIN:
                return False
        user = User(
            id=uuid7(),
            email=admin.email,
            password_hash=await Passwords(create_registry()).hash(admin.password),
            role=Role.ADMIN,
            status=UserStatus.ACTIVE,
            fullname=admin.fullname,
            time_zone="UTC",
            time_zone_chosen=False,
            locale="en",
            version=1,
        )
        async with transactions.begin() as session:
            users = UserRepository(session)
            await users.add(user)
            await users.announce(UserRegistered(user=state_of(user)))
            await AuditRepository(session).tell("account.created", user)
        return True
    finally:
        await transactions.close()


async def republish(database_url: str) -> int:
    """Announce the present state of every account, for a consumer that starts anew; return their number.

    Takes no locks: a change that commits meanwhile has a higher version and its own event, and consumers keep the
    highest.
    """
    transactions = Transactions(database_url, max_connections=1)
    count = 0
    query = sa.select(User).order_by(User.id).limit(_BATCH)
    try:
        while True:
            async with transactions.begin() as session:
                users = UserRepository(session)
                batch = (await session.scalars(query)).all()
                for user in batch:
                    await users.announce(UserUpdated(user=state_of(user)))
            if not batch:
                return count
            count += len(batch)
            query = query.where(User.id > batch[-1].id)
    finally:
        await transactions.close()
