"""How an attempt to deliver may end, other than by success."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an attempt failed.

    The first three end a delivery as FAILED. `link_void`, `expired`, `erased` and `address_unverified` end it as
    SKIPPED. After any other reason it is attempted again.
    """

    RECIPIENT_REFUSED = "recipient_refused"
    MESSAGE_REFUSED = "message_refused"
    MALFORMED_ADDRESS = "malformed_address"
    NO_ADDRESS = "no_address"
    CONTACT_UNAVAILABLE = "contact_unavailable"
    SERVER_UNREACHABLE = "server_unreachable"
    SERVER_BUSY = "server_busy"
    SENDER_REFUSED = "sender_refused"
    TIMED_OUT = "timed_out"
    INTERNAL_ERROR = "internal_error"
    LINK_VOID = "link_void"
    EXPIRED = "expired"
    ERASED = "erased"
    ADDRESS_UNVERIFIED = "address_unverified"
    TOO_MANY_MAILS = "too_many_mails"


class Failure(Exception):
    """An attempt that did not succeed. `error` is shown to admins and must not contain an address."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(reason)
        self.reason, self.error = reason, error


class Refused(Failure):
    """No attempt will succeed."""


class Obsolete(Failure):
    """There is nothing to deliver any more."""


class Deferred(Failure):
    """A later attempt may succeed."""
