"""The errors that are this service's own."""

from services.kit.errors import Conflict, Forbidden


class AccountSuspended(Forbidden):
    code, title = "account_suspended", "This account is suspended"


class ReplayFailed(Conflict):
    code, title = "replay_failed", "It was handled again, and failed again"


class ChannelNotConfigured(Conflict):
    code, title = "channel_not_configured", "This delivery's channel is not set up here"
