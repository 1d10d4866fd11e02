"""The errors that are this service's own."""

from services.kit.errors import Forbidden


class AccountSuspended(Forbidden):
    code, title = "account_suspended", "This account is suspended"
