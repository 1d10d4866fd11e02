"""The errors of this service."""

from services.kit.errors import Conflict, TooManyRequests, Unauthorized


class InvalidTicket(Unauthorized):
    code, title = "invalid_ticket", "The stream's ticket is used, expired, or not yours"
    when = "The ticket was used, is older than 30 seconds, or was made for another user."
    remedy = "Request a new ticket for each connection."


class TooManyStreams(TooManyRequests):
    """`Retry-After` is the interval in which the leases of killed processes end."""

    code, title = "too_many_streams", "You have five streams open: close one first"
    when = "The user has five streams open, in all tabs and devices together."
    remedy = "Close one, or try again after as many seconds as `Retry-After` says."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=15)


class ReplayFailed(Conflict):
    code, title = "replay_failed", "It was handled again, and failed again"
    when = "The cause of the first failure is still there."
    remedy = "Mend it, then replay the dead letter again."


class ChannelNotConfigured(Conflict):
    code, title = "channel_not_configured", "This delivery's channel is not set up here"
    when = "The delivery goes by a channel for which this platform has no server."
    remedy = "Set the channel up, then replay the delivery."
