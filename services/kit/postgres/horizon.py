"""How far the numbers of an identity column are complete.

A row takes its number before its transaction commits, so that a lower number may appear after a higher one, after any
number of them. Only when every transaction has ended that could have taken a lower one is nothing missing below it.
"""

from time import monotonic

# A statement may have taken a number and have no transaction id yet. It is over by then, or has one: statements of the
# application last a second at most.
_STATEMENT_SECONDS = 2.0

# The oldest transaction that is still running, and the next one.
TRANSACTIONS = """
    SELECT pg_snapshot_xmin(present)::text::bigint AS oldest, pg_snapshot_xmax(present)::text::bigint AS next
    FROM pg_current_snapshot() AS present
"""


class Horizon:
    """Numbers up to `complete` are seen by every statement from now on: no transaction can still commit one."""

    def __init__(self) -> None:
        self.complete = 0
        self._highest, self._since = 0, monotonic()
        self._bound: int | None = None

    def observe(self, highest: int, oldest: int, next_: int) -> None:
        """Note the highest number in the table and, from one snapshot of that moment or before, `TRANSACTIONS`."""
        if self._bound is None:
            if monotonic() - self._since >= _STATEMENT_SECONDS:
                self._bound = next_
        elif oldest >= self._bound:
            self.complete = max(self.complete, self._highest)
            self._highest, self._since, self._bound = highest, monotonic(), None
