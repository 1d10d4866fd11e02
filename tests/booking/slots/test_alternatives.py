from datetime import UTC, datetime, timedelta

from services.booking.slots.alternatives import free_times

START = datetime(2030, 1, 1, 9, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
LATER = START + timedelta(days=1)


def minutes(*taken: tuple[int, int], until: datetime = LATER, length: timedelta = HALF_HOUR) -> list[int]:
    """Return the offered starts in minutes after the first."""
    busy = [(START + timedelta(minutes=start), START + timedelta(minutes=end)) for start, end in taken]
    return [(free.starts_at - START) // timedelta(minutes=1) for free in free_times(START, length, busy, until)]


def test_three_times_are_offered_one_after_the_other() -> None:
    assert minutes((0, 30)) == [30, 60, 90]


def test_a_gap_that_is_long_enough_is_offered() -> None:
    assert minutes((0, 30), (60, 90), (119, 130)) == [30, 130, 160]


def test_what_overlaps_counts_as_one() -> None:
    assert minutes((-60, 100), (10, 20), (90, 120)) == [120, 150, 180]


def test_nothing_is_offered_beyond_what_is_known() -> None:
    assert minutes((0, 30), until=START + timedelta(minutes=60)) == [30]
    assert minutes((0, 90), until=START + timedelta(minutes=60)) == []


def test_an_offered_time_is_a_whole_minute_also_after_a_booking_that_ends_within_one() -> None:
    busy = [(START, START + timedelta(minutes=29, microseconds=1))]
    found = free_times(START, timedelta(minutes=30), busy, START + timedelta(hours=9))
    assert [free.starts_at - START for free in found] == [timedelta(minutes=minutes) for minutes in (30, 60, 90)]
