"""One-time codes set up by an operator, for an admin who must have them or has lost device and codes."""

from typing import NamedTuple

import sqlalchemy as sa

from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.mfa import codes
from services.auth.mfa.codes import FactorSecrets
from services.auth.mfa.repository import FactorRepository
from services.auth.models import User
from services.auth.users.addresses import lookup_form
from services.contracts.enums import Role
from services.kit.errors import NotFound
from services.kit.subkeys import Subkeys


class Factor(NamedTuple):
    uri: str
    recovery_codes: list[str]


async def set_up(database_url: str, subkeys: Subkeys, email: str, issuer: str) -> Factor:
    """Replace the codes of the admin with this address. Raises `NotFound` if there is no such admin."""
    secrets, secret, recovery_codes = FactorSecrets.of(subkeys), codes.new_secret(), codes.new_recovery_codes()
    admins = sa.select(User).where(User.email == lookup_form(email), User.role == Role.ADMIN)
    transactions = Transactions(database_url, max_connections=1)
    try:
        async with transactions.begin() as session:
            user = await session.scalar(admins.with_for_update())
            if user is None:
                raise NotFound("No admin has this e-mail address")
            factors = FactorRepository(session)
            factor = await factors.replace(user.id, secrets.encrypted(secret, user.id))
            await factors.confirm(factor, 0, [secrets.hashes_of(code, user.id)[0] for code in recovery_codes])
            await AuditRepository(session).tell("mfa.enabled", user)
        return Factor(codes.as_uri(secret, email, issuer), recovery_codes)
    finally:
        await transactions.close()
