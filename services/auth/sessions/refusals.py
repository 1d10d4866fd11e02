from time import time
from uuid import UUID

_WINDOW_SECONDS = 3600
_MOST_ACCOUNTS = 10_000


class RefusedLogins:
    """Counts the logins that throttles refuse, so that the audit trail gets an entry for the 1st, 10th, 100th … of an
    account in an hour: an attacker must not fill it with one entry a request.
    """

    def __init__(self) -> None:
        self._window = 0
        self._counts: dict[UUID | None, int] = {}

    def is_worth_an_entry(self, user_id: UUID | None) -> bool:
        """Count one more; addresses without an account share one count."""
        window = int(time() // _WINDOW_SECONDS)
        if window != self._window or len(self._counts) >= _MOST_ACCOUNTS:
            self._window, self._counts = window, {}
        count = self._counts[user_id] = self._counts.get(user_id, 0) + 1
        return str(count).rstrip("0") == "1"
