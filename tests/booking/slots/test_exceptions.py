"""Leave, extra hours and public holidays in the computation of free times."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.booking.availability.schedules import Exceptions, always_open
from services.booking.slots import engine
from services.booking.slots.engine import Rule
from services.booking.slots.wall_times import leave_span
from tests.booking.slots.schedules import at, extra, off, starts, wall, weekly


def test_leave_closes_and_leaves_the_grid_alone() -> None:
    away = off(("2027-01-11T09:40", "2027-01-11T10:20"), ("2027-01-11T11:30", "2027-01-12T09:30"))
    mornings = weekly((1, "09:00", "12:00"), (2, "09:00", "10:30"))._replace(exceptions=away)
    found = starts(mornings, "2027-01-11", "2027-01-12", 30)
    assert found == ["01-11 09:00Z", "01-11 10:30Z", "01-11 11:00Z", "01-12 09:30Z", "01-12 10:00Z"]


def test_extra_hours_have_a_grid_of_their_own_and_may_pass_midnight() -> None:
    late = extra(("2027-01-09T22:45", "2027-01-10T00:30"))
    found = starts(weekly(slot=45)._replace(exceptions=late), "2027-01-09", "2027-01-10", 45)
    assert found == ["01-09 22:45Z", "01-09 23:30Z"]
    assert starts(weekly(slot=40)._replace(exceptions=late), "2027-01-10", "2027-01-10", 25)[-1] == "01-10 00:05Z"


def test_extra_hours_that_touch_the_weekly_ones_make_longer_appointments_possible() -> None:
    longer = weekly((1, "09:00", "10:00"))._replace(exceptions=extra(("2027-01-11T10:00", "2027-01-11T11:00")))
    assert starts(longer, "2027-01-11", "2027-01-11", 90) == ["01-11 09:00Z", "01-11 09:30Z"]


def test_leave_wins_over_extra_hours() -> None:
    both = Exceptions(
        off=(wall("2027-01-11T10:00", "2027-01-11T11:00"),), extra=(wall("2027-01-11T09:00", "2027-01-11T12:00"),)
    )
    found = starts(weekly()._replace(exceptions=both), "2027-01-11", "2027-01-11", 60)
    assert found == ["01-11 09:00Z", "01-11 11:00Z"]


def test_on_a_public_holiday_only_extra_hours_are_open() -> None:
    every_day = weekly(*((day, "09:00", "11:00") for day in range(1, 8)), zone="Europe/Berlin", slot=60)
    berlin = every_day._replace(public_holidays="DE-BE")
    assert starts(berlin, "2027-03-07", "2027-03-09", 60) == [  # the 8th is a holiday in Berlin alone
        *("03-06 08:00Z", "03-06 09:00Z", "03-07 08:00Z", "03-07 09:00Z"),
        *("03-09 08:00Z", "03-09 09:00Z", "03-10 08:00Z", "03-10 09:00Z"),
    ]
    assert "03-08 08:00Z" in starts(every_day._replace(public_holidays="DE-HH"), "2027-03-08", "2027-03-08", 60)
    opened = berlin._replace(exceptions=extra(("2027-03-08T09:30", "2027-03-08T10:30")))
    assert starts(opened, "2027-03-08", "2027-03-08", 60)[2:-2] == ["03-08 08:30Z"]


def test_a_holiday_takes_its_own_day_of_hours_that_pass_midnight() -> None:
    nights = weekly((7, "22:00", "26:00"), (1, "22:00", "26:00"), zone="Europe/Berlin", slot=60)
    found = starts(nights._replace(public_holidays="DE-BE"), "2027-03-07", "2027-03-09", 60)
    assert found == ["03-07 21:00Z", "03-07 22:00Z", "03-08 23:00Z", "03-09 00:00Z"]


@pytest.mark.parametrize(
    ("zone", "leave", "expected"),
    [
        ("Europe/Berlin", ("2027-03-28T01:30", "2027-03-28T03:30"), ("00:30Z", "01:30Z")),  # across the gap
        ("Europe/Berlin", ("2027-03-28T02:15", "2027-03-28T02:45"), ("01:00Z", "01:00Z")),  # within it
        ("Europe/Berlin", ("2027-03-28T02:30", "2027-03-28T04:00"), ("01:00Z", "02:00Z")),
        ("Europe/Berlin", ("2027-03-28T01:00", "2027-03-28T03:00"), ("00:00Z", "01:00Z")),
        ("Europe/Berlin", ("2027-10-31T01:30", "2027-10-31T03:30"), ("10-30 23:30Z", "02:30Z")),  # across the fold
        ("Europe/Berlin", ("2027-10-31T02:15", "2027-10-31T02:45"), ("00:15Z", "01:45Z")),  # both times
        ("Europe/Berlin", ("2027-10-31T00:00", "2027-10-31T02:00"), ("10-30 22:00Z", "00:00Z")),
        ("Europe/Berlin", ("2027-10-31T02:00", "2027-10-31T03:00"), ("00:00Z", "02:00Z")),
        ("America/Havana", ("2027-11-06T00:00", "2027-11-07T00:00"), ("11-06 04:00Z", "11-07 04:00Z")),
        ("America/Santiago", ("2027-04-03T00:00", "2027-04-04T00:00"), ("04-03 03:00Z", "04-04 04:00Z")),
        ("America/Santiago", ("2027-09-04T00:00", "2027-09-05T00:00"), ("09-04 04:00Z", "09-05 04:00Z")),
    ],
)
def test_leave_when_the_clocks_change(zone: str, leave: tuple[str, str], expected: tuple[str, str]) -> None:
    found = [datetime.fromtimestamp(at, UTC).strftime("%m-%d %H:%MZ") for at in leave_span(zone, wall(*leave))]
    assert all(instant.endswith(end) for instant, end in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (("02:15", "02:45"), []),
        (("02:30", "03:30"), ["03-28 01:00Z"]),
        (("01:30", "03:30"), ["03-28 00:30Z", "03-28 01:00Z"]),
    ],
)
def test_extra_hours_at_a_time_that_the_clock_skips(hours: tuple[str, str], expected: list[str]) -> None:
    gap = extra((f"2027-03-28T{hours[0]}", f"2027-03-28T{hours[1]}"))
    found = starts(weekly(zone="Europe/Berlin")._replace(exceptions=gap), "2027-03-28", "2027-03-28", 30)
    assert found == expected


def test_a_doctor_without_hours_has_no_grid_and_leave() -> None:
    doctor = always_open(UUID(int=1), "Europe/Berlin")._replace(
        exceptions=off(("2027-01-11T00:00", "2027-01-12T00:00"))
    )
    now = at("2027-01-01T00:00Z")

    def rule(start: str) -> Rule | None:
        return engine.broken_rule(doctor, at(start), at(start) + 1800, now, by_patient=True)

    assert rule("2027-01-10T22:31Z") is Rule.OUTSIDE_AVAILABILITY
    assert rule("2027-01-11T12:00Z") is Rule.OUTSIDE_AVAILABILITY
    for start in ("2027-01-10T22:30Z", "2027-01-11T23:00Z", "2027-01-11T23:07Z", "2036-12-30T00:01Z"):
        assert rule(start) is None
    assert engine.is_open(doctor, (at("2027-01-11T23:00Z"), at("2027-03-30T00:00Z")))
    assert not engine.is_open(doctor, (at("2027-01-10T22:00Z"), at("2027-03-30T00:00Z")))
