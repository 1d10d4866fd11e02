"""The errors that are this service's own."""

from services.kit.errors import Forbidden, TooManyRequests, Unauthorized


class AccountSuspended(Forbidden):
    code, title = "account_suspended", "This account is suspended"


class InvalidTicket(Unauthorized):
    code, title = "invalid_ticket", "The stream's ticket is used, expired, or not yours"


class TooManyStreams(TooManyRequests):
    """Retry-After is how often the leases of streams whose process is gone are looked at."""

    code, title = "too_many_streams", "You have five streams open: close one first"

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=15)
