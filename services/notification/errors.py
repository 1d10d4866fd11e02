"""The errors that are this service's own."""

from services.kit.errors import Conflict, TooManyRequests, Unauthorized


class InvalidTicket(Unauthorized):
    code, title = "invalid_ticket", "The stream's ticket is used, expired, or not yours"


class TooManyStreams(TooManyRequests):
    """Retry-After is how often the leases of streams whose process is gone are looked at."""

    code, title = "too_many_streams", "You have five streams open: close one first"

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=15)


class ReplayFailed(Conflict):
    code, title = "replay_failed", "It was handled again, and failed again"


class ChannelNotConfigured(Conflict):
    code, title = "channel_not_configured", "This delivery's channel is not set up here"
