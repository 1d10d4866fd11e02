"""Schedules, bookings and windows around days on which the clocks change or holidays are."""

from datetime import UTC, date, datetime, time, timedelta

from hypothesis import strategies as st

from services.booking.availability.schedules import Exceptions, Hours, Period, Schedule, WallSpan
from services.booking.slots.wall_times import Span
from tests.booking.slots.schedules import schedule

# A day on which the clocks change, or on which little happens.
DAYS = [
    ("UTC", date(2027, 3, 10)),
    ("Europe/Berlin", date(2027, 3, 28)),
    ("Europe/Berlin", date(2027, 10, 31)),
    ("America/New_York", date(2027, 3, 14)),
    ("America/New_York", date(2027, 11, 7)),
    ("Australia/Lord_Howe", date(2027, 4, 4)),
    ("Australia/Lord_Howe", date(2027, 10, 3)),
    ("America/Vancouver", date(2026, 11, 1)),
    ("America/Vancouver", date(2027, 3, 14)),
    ("Asia/Kathmandu", date(2027, 1, 11)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Africa/Casablanca", date(2027, 2, 7)),
    ("Africa/Casablanca", date(2027, 3, 14)),
    ("America/Santiago", date(2027, 9, 5)),
    ("America/Santiago", date(2027, 4, 4)),
]
HOURS = st.builds(
    lambda weekday, start, length: Hours(0, weekday, start, start + length),
    st.integers(1, 7),
    st.integers(0, 287).map(lambda n: n * 5),
    st.integers(1, 288).map(lambda n: n * 5),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Schedule, list[Span], Span, int, int, date]:
    zone, day = draw(st.sampled_from(DAYS))
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())

    def instants(low: int, high: int) -> st.SearchStrategy[int]:
        return st.integers(low // 5, high // 5).map(lambda n: midnight + n * 300)

    around = st.integers(-2, 2).map(lambda days: day + timedelta(days=days))
    change = draw(st.none() | around)
    hours = st.lists(HOURS, max_size=8).map(lambda found: tuple(sorted(found)))
    if change is None:
        periods = [Period(None, None, 1, draw(hours))]
    else:
        cycle = draw(st.integers(1, 2))
        later = tuple(one._replace(week=draw(st.integers(0, cycle - 1))) for one in draw(hours))
        periods = [Period(None, change, 1, draw(hours)), Period(change, None, cycle, later)]
    busy = draw(st.lists(st.tuples(instants(-1440, 2880), st.integers(1, 60).map(lambda n: n * 300)), max_size=6))
    window = draw(instants(-720, 1440)), draw(instants(-720, 2160))
    length = draw(st.sampled_from([5, 15, 30, 45, 60, 240, 480])) * 60

    def spans(most: int) -> st.SearchStrategy[tuple[WallSpan, ...]]:
        first = datetime.combine(day, time.min)
        local = st.integers(-288, 576).map(lambda n: first + n * timedelta(minutes=5))
        lengths = st.integers(1, 600).map(lambda n: n * timedelta(minutes=5))
        made = st.builds(lambda start, length: WallSpan(start, start + length), local, lengths)
        return st.lists(made, max_size=most).map(lambda found: tuple(sorted(found)))

    made = schedule(
        *periods,
        zone=zone,
        slot=draw(st.sampled_from([5, 10, 20, 30, 50, 60, 240])),
        notice=draw(st.sampled_from([0, 60, 1440])),
        horizon=draw(st.sampled_from([1, 2, 30])),
    )
    made = made._replace(
        public_holidays=draw(st.sampled_from([None, None, "DE-BE", "US-NY"])),
        exceptions=Exceptions(off=draw(spans(3)), extra=draw(spans(2))),
    )
    now = draw(instants(-2880, 720))
    return made, sorted((start, start + for_) for start, for_ in busy), window, length, now, day
