from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from services.booking.availability.public_holidays import REGION_PATTERN
from services.kit.schema import Request, Wire, form
from services.kit.zones import chosen_zone


def _time(pattern: str, example: str) -> Meta:
    """Describe a time of day. `rules` checks it, whose errors say more than that a pattern does not match."""
    return Meta(examples=[example], extra_json_schema={"pattern": pattern})


Start = Annotated[str, _time(r"^([01]\d|2[0-3]):[0-5]\d$", "09:00")]
End = Annotated[str, _time(r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$", "17:00")]
Week = Annotated[int, Meta(ge=0, le=3, description="Of the cycle; 0 is the week of `validFrom`")]
Weekday = Annotated[int, Meta(ge=1, le=7, description="1 is Monday", examples=[1])]
CycleWeeks = Annotated[int, Meta(ge=1, le=4, description="The hours repeat after so many weeks")]
TimeZone = Annotated[str, Meta(max_length=64, examples=["Europe/Berlin"]), form(chosen_zone)]
SlotMinutes = Annotated[int, Meta(ge=5, le=240, description="From one start to the next", examples=[30])]
NoticeMinutes = Annotated[
    int, Meta(ge=0, le=43_200, description="How long before its start a patient can book", examples=[120])
]
HorizonDays = Annotated[int, Meta(ge=1, le=3650, description="How far ahead a patient can book", examples=[90])]
AutoConfirm = Annotated[bool, Meta(description="Whether appointments are CONFIRMED at once instead of PENDING")]
CutoffMinutes = Annotated[
    int,
    Meta(ge=0, le=43_200, description="How long before its start a patient can last cancel or move", examples=[1440]),
]
OpenAppointments = Annotated[
    int, Meta(ge=1, le=1000, description="How many upcoming appointments a patient can have with this doctor")
]

PublicHolidays = Annotated[
    str,
    Meta(
        pattern=REGION_PATTERN,
        max_length=6,
        description="The doctor is closed on the public holidays of this region: an ISO 3166 country, and a subdivision"
        " where it has its own",
        examples=["DE-BE"],
    ),
]


class HoursUpdate(Request, frozen=True, kw_only=True):
    weekday: Weekday
    start: Start
    end: End
    week: Week = 0


class PeriodUpdate(Request, frozen=True, kw_only=True):
    valid_from: date | None = None
    valid_until: date | None = None
    cycle_weeks: CycleWeeks = 1
    hours: Annotated[list[HoursUpdate], Meta(max_length=200)]


class AvailabilityUpdate(Request, frozen=True, kw_only=True):
    time_zone: TimeZone
    slot_minutes: SlotMinutes = 30
    minimum_notice_minutes: NoticeMinutes = 0
    horizon_days: HorizonDays = 365
    auto_confirm: AutoConfirm = False
    cancellation_cutoff_minutes: CutoffMinutes = 0
    open_appointments_per_patient: OpenAppointments | None = None
    public_holidays: PublicHolidays | None = None
    weekly: Annotated[list[PeriodUpdate], Meta(max_length=20)]


class WeeklyHours(Wire, frozen=True, kw_only=True):
    """Local times; an `end` that is not after `start` is on the next day."""

    week: Week
    weekday: Weekday
    start: Start
    end: End


class WeeklyPeriod(Wire, frozen=True, kw_only=True):
    """Valid from the first to the last day; a null sets no limit."""

    valid_from: Annotated[date, Meta(examples=["2027-01-01"])] | None
    valid_until: Annotated[date, Meta(examples=["2027-06-30"])] | None
    cycle_weeks: CycleWeeks
    hours: list[WeeklyHours]


class Availability(Wire, frozen=True, kw_only=True):
    """A doctor's hours, as local times of `timeZone`."""

    doctor_id: UUID
    time_zone: TimeZone
    slot_minutes: SlotMinutes
    minimum_notice_minutes: NoticeMinutes
    horizon_days: HorizonDays
    auto_confirm: AutoConfirm
    cancellation_cutoff_minutes: CutoffMinutes
    open_appointments_per_patient: OpenAppointments | None
    public_holidays: PublicHolidays | None
    weekly: list[WeeklyPeriod]
    version: int
    updated_at: datetime

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class AvailabilityChange(Wire, frozen=True, kw_only=True):
    """`availability` is what it was from this version on."""

    version: int
    changed_at: datetime
    actor_id: UUID
    actor_role: Annotated[str, Meta(examples=["DOCTOR"])]
    availability: Availability
