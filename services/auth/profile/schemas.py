from datetime import datetime

from msgspec import UNSET, UnsetType

from services.auth.mfa.schemas import Otp
from services.auth.sessions.schemas import OwnSession
from services.auth.users.schemas import GivenPassword, OwnAccount
from services.kit.schema import Request, Wire
from services.kit.trail.entry import AuditEntry


class Erasure(Request, frozen=True):
    """`otp` is needed where one-time codes are on."""

    password: GivenPassword
    otp: Otp | UnsetType = UNSET


class OwnData(Wire, frozen=True):
    exported_at: datetime
    account: OwnAccount
    sessions: list[OwnSession]
    audit: list[AuditEntry]
