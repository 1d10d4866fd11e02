"""What makes an exception of what a client sends, and back: pure."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.booking.availability.rules import MIDNIGHT, YEARS, clock, minute_of
from services.booking.availability.schedules import DAY_MINUTES, Exceptions, WallSpan
from services.booking.schedule_exceptions.schemas import ExceptionCreate
from services.booking.time.requests import TEN_YEARS
from services.kit.errors import BadRequest, FieldError

LONGEST = timedelta(days=366)
_DAY = timedelta(days=1)


def span_of(wanted: ExceptionCreate) -> WallSpan:
    """Return the time that is asked for; raise `BadRequest` with the path of everything that is wrong in it."""
    start, end = minute_of(wanted.start), DAY_MINUTES if wanted.end == MIDNIGHT else minute_of(wanted.end)
    errors = []
    if start is None:
        errors.append(FieldError("start", "Expected a time from 00:00 to 23:59, such as 09:30"))
    if end is None:
        errors.append(FieldError("end", "Expected a time from 00:00 to 24:00, such as 17:30"))
    for name, day in (("from", wanted.from_), ("until", wanted.until)):
        if day is not None and day.year not in YEARS:
            errors.append(FieldError(name, f"Expected a year from {YEARS[0]} to {YEARS[-1]}"))
    if errors or start is None or end is None:
        raise BadRequest(errors=errors)
    until = wanted.until or (wanted.from_ + _DAY if end <= start else wanted.from_)
    span = WallSpan(_wall(wanted.from_, start), _wall(until, end))
    if until < wanted.from_:
        raise BadRequest(errors=[FieldError("until", "Before from")])
    if span.end <= span.start:
        raise BadRequest(errors=[FieldError("end", "Not after start: leave out `until` for an end on the next day")])
    if span.end - span.start > LONGEST:
        raise BadRequest(errors=[FieldError("until", f"At most {LONGEST.days} days after from")])
    return span


def refuse_out_of_range(span: WallSpan, now: datetime, zone: ZoneInfo) -> None:
    local = now.astimezone(zone).replace(tzinfo=None)
    if span.end <= local:
        raise BadRequest(errors=[FieldError("until", "Over already in the doctor's zone")])
    if span.start > local + TEN_YEARS:
        raise BadRequest(errors=[FieldError("from", "At most ten years ahead")])


def wire_times(span: WallSpan) -> dict[str, Any]:
    """Return the fields of a span; one that ends at midnight ends with its last day."""
    last, end = span.end.date(), clock(_minutes(span.end))
    if end == "00:00":
        last, end = last - _DAY, MIDNIGHT
    return {"from_": span.start.date(), "start": clock(_minutes(span.start)), "until": last, "end": end}


def with_exception(exceptions: Exceptions, kind: str, span: WallSpan) -> Exceptions:
    if kind == "OFF":
        return exceptions._replace(off=tuple(sorted((*exceptions.off, span))))
    return exceptions._replace(extra=tuple(sorted((*exceptions.extra, span))))


def without_extra(exceptions: Exceptions, span: WallSpan) -> Exceptions:
    """Return the exceptions without one of the extra hours that are `span`; those may be over, and lack."""
    extra = list(exceptions.extra)
    if span in extra:
        extra.remove(span)
    return exceptions._replace(extra=tuple(extra))


def _wall(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001


def _minutes(wall: datetime) -> int:
    return wall.hour * 60 + wall.minute
