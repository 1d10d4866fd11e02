"""All checks, in the order of their names."""

from tests.faults.checks.answers import answers_are_proper, logs_show_no_bug
from tests.faults.checks.bookings import (
    a_key_books_once,
    acknowledged_is_stored,
    every_version_is_recorded_once,
    nothing_overlaps,
)
from tests.faults.checks.events import every_recipient_is_notified_once, nothing_is_left_over, projections_are_current
from tests.faults.checks.evidence import Evidence, Finding


async def check(evidence: Evidence) -> list[Finding]:
    """Look for defects in the stores themselves, not through the API."""
    return [
        *await acknowledged_is_stored(evidence),
        *await nothing_overlaps(evidence),
        *await a_key_books_once(evidence),
        *await every_version_is_recorded_once(evidence),
        *await every_recipient_is_notified_once(evidence),
        *await projections_are_current(evidence),
        *await nothing_is_left_over(evidence),
        *answers_are_proper(evidence),
        *logs_show_no_bug(evidence),
    ]
