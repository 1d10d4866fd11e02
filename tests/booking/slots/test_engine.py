"""Which times are free: against an obvious implementation, on days when the clocks change, and cases from the field."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.booking.availability.schedules import Hours, Period, Schedule
from services.booking.slots import engine
from services.booking.slots.engine import Rule
from services.booking.slots.wall_times import Span
from tests.booking.slots import minutes
from tests.booking.slots.schedules import DAY, at, schedule, starts, weekly
from tests.booking.slots.worlds import worlds


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("Asia/Kolkata", ["03:30Z", "04:30Z", "05:30Z"]), ("Asia/Kathmandu", ["03:15Z", "04:15Z", "05:15Z"])],
)
def test_case_1_zones_of_half_and_quarter_hours(zone: str, expected: list[str]) -> None:
    found = starts(weekly((1, "09:00", "12:00"), zone=zone, slot=60), "2027-01-11", "2027-01-11", 60)
    assert found == [f"01-11 {start}" for start in expected]


def test_case_2_the_day_that_springs_forward() -> None:
    sundays = weekly((7, "15:00", "16:30"), zone="America/Chicago", slot=90)
    found = [starts(sundays, day, day, 90) for day in ("2027-03-07", "2027-03-14", "2027-03-21")]
    assert found == [["03-07 21:00Z"], ["03-14 20:00Z"], ["03-21 20:00Z"]]


def test_case_3_asked_in_august_for_november() -> None:
    always_at_nine = weekly(*((day, "09:00", "09:30") for day in range(1, 8)), zone="America/New_York")
    found = starts(always_at_nine, "2027-11-05", "2027-11-08", 30, now="2027-08-01")
    assert {"11-05 13:00Z", "11-08 14:00Z"} < set(found)


def test_case_4_over_midnight() -> None:
    found = starts(weekly((1, "22:30", "24:00"), (2, "00:00", "02:00")), "2027-01-11", "2027-01-11", 60)
    assert found == [
        *(f"01-11 {time}Z" for time in ("22:30", "23:00", "23:30")),
        *(f"01-12 {time}Z" for time in ("00:00", "00:30", "01:00")),
    ]
    one_block = schedule(Period(None, None, 1, (Hours(0, 1, 22 * 60 + 30, 26 * 60),)))
    assert starts(one_block, "2027-01-11", "2027-01-11", 60) == found


@pytest.mark.parametrize(("end", "length", "last"), [("16:45", 20, "16:20"), ("18:00", 50, "16:30")])
def test_case_5_the_last_slot(end: str, length: int, last: str) -> None:
    found = starts(weekly((1, "09:00", end), slot=length), "2027-01-11", "2027-01-11", length)
    assert found[-1] == f"01-11 {last}Z"


def test_case_6_what_an_appointment_blocks_after_it_is_not_free() -> None:
    found = starts(
        weekly((1, "09:00", "10:30"), slot=15),
        "2027-01-11",
        "2027-01-11",
        15,
        ("2027-01-11T09:00Z", "2027-01-11T09:45Z"),
    )
    assert found == ["01-11 09:45Z", "01-11 10:00Z", "01-11 10:15Z"]


def test_case_7_what_an_appointment_blocks_on_both_sides() -> None:
    found = starts(
        weekly((1, "08:00", "18:00")), "2027-01-11", "2027-01-11", 60, ("2027-01-11T11:00Z", "2027-01-11T14:00Z")
    )
    assert [start for start in found if start < "01-11 11"][-1] == "01-11 10:00Z"
    assert next(start for start in found if start > "01-11 11") == "01-11 14:00Z"


def test_a_short_appointment_within_a_long_one_frees_nothing() -> None:
    """Overbooking makes such pairs."""
    busy = [("2027-01-11T09:00Z", "2027-01-11T12:00Z"), ("2027-01-11T09:30Z", "2027-01-11T10:00Z")]
    found = starts(weekly((1, "09:00", "13:00")), "2027-01-11", "2027-01-11", 30, *busy)
    assert found == ["01-11 12:00Z", "01-11 12:30Z"]


@pytest.mark.parametrize(
    ("zone", "day", "hours", "expected"),
    [
        ("America/New_York", "2027-03-14", ("01:00", "04:00"), ["06:00Z", "06:30Z", "07:00Z", "07:30Z"]),
        ("Europe/Berlin", "2027-03-28", ("02:15", "04:00"), ["01:15Z"]),
        ("Europe/Berlin", "2027-03-28", ("02:00", "03:00"), []),
        ("Europe/Berlin", "2027-10-31", ("02:00", "03:00"), ["00:00Z", "00:30Z"]),
        ("Australia/Lord_Howe", "2027-10-03", ("01:30", "03:00"), ["15:00Z", "15:30Z"]),
        ("Australia/Lord_Howe", "2027-04-04", ("01:00", "02:30"), ["14:00Z", "14:30Z", "15:30Z"]),
        ("America/Vancouver", "2027-01-10", ("09:00", "10:00"), ["16:00Z", "16:30Z"]),
        ("Africa/Casablanca", "2027-02-07", ("09:00", "10:00"), ["09:00Z", "09:30Z"]),
        ("Pacific/Apia", "2011-12-30", ("09:00", "10:00"), []),
        ("America/Santiago", "2027-09-05", ("00:00", "02:00"), ["04:00Z", "04:30Z"]),
    ],
)
def test_a_day_on_which_the_clocks_change(zone: str, day: str, hours: tuple[str, str], expected: list[str]) -> None:
    on = date.fromisoformat(day)
    found = starts(weekly((on.isoweekday(), *hours), zone=zone), day, day, 30)
    assert [start.split()[1] for start in found] == expected


def test_hours_that_change_on_a_date_change_in_the_middle_of_a_week() -> None:
    wednesday = date(2027, 1, 13)
    mornings = tuple(Hours(0, day, 540, 570) for day in range(1, 8))
    evenings = tuple(Hours(0, day, 1080, 1110) for day in range(1, 8))
    changing = schedule(Period(None, wednesday, 1, mornings), Period(wednesday, None, 1, evenings))
    found = starts(changing, "2027-01-12", "2027-01-13", 30)
    assert found == ["01-11 09:00Z", "01-12 09:00Z", "01-13 18:00Z", "01-14 18:00Z"]


def test_weeks_alternate_from_the_week_of_the_first_date() -> None:
    thursday = date(2027, 1, 14)
    alternating = schedule(Period(thursday, None, 2, (Hours(0, 5, 540, 570), Hours(1, 1, 600, 630))))
    found = starts(alternating, "2027-01-11", "2027-02-01", 30)
    assert found == ["01-15 09:00Z", "01-18 10:00Z", "01-29 09:00Z", "02-01 10:00Z"]


def test_notice_and_horizon_are_inclusive_and_bind_patients() -> None:
    limited = weekly((1, "00:00", "24:00"), (2, "00:00", "24:00"), slot=60, notice=120, horizon=1)
    now = at("2027-01-11T07:00Z")
    found = engine.free_starts(limited, [], (now, now + 3 * DAY), 3600, now)
    assert (found[0], found[-1]) == (now + 2 * 3600, now + DAY)

    def rule(start: int, *, by_patient: bool) -> Rule | None:
        return engine.broken_rule(limited, start, start + 3600, now, by_patient=by_patient)

    assert rule(found[0] - 3600, by_patient=True) is Rule.TOO_SOON
    assert rule(found[-1] + 3600, by_patient=True) is Rule.TOO_FAR
    assert rule(found[0] + 60, by_patient=True) is Rule.OUTSIDE_AVAILABILITY
    for start in (found[0] - 3600, found[-1] + 3600, found[0] + 60):
        assert rule(start, by_patient=False) is None


BUFFER = st.sampled_from([0, 0, 5, 15, 60, 240]).map(lambda minutes: minutes * 60)


@settings(max_examples=150, deadline=None)
@given(worlds(), st.tuples(BUFFER, BUFFER))
def test_with_buffers_it_finds_what_the_obvious_way_finds(
    world: tuple[Schedule, list[Span], Span, int, int, date], buffers: tuple[int, int]
) -> None:
    made, busy, window, length, now, day = world
    found = engine.free_starts(made, engine.widened(busy, *buffers), window, length, now)
    assert found == minutes.free_starts(made, busy, window, length, now, day, buffers)


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_it_finds_what_the_obvious_way_finds(world: tuple[Schedule, list[Span], Span, int, int, date]) -> None:
    made, busy, window, length, now, day = world
    found = engine.free_starts(made, busy, window, length, now)
    assert found == minutes.free_starts(made, busy, window, length, now, day)
    for start in range(window[0], window[1], 300):
        fits = engine.broken_rule(made, start, start + length, now, by_patient=True) is None
        taken = any(begin < start + length and start < end for begin, end in busy)
        assert (start in found) == (fits and not taken)
