"""What may become of an appointment: pure decisions on what was read under its lock."""

from datetime import UTC, datetime, timedelta

from msgspec import UNSET
from msgspec.structs import replace

from services.booking.appointments.schemas import Appointment, AppointmentUpdate
from services.booking.errors import AlreadyStarted, CancellationTooLate, IllegalTransition
from services.contracts.enums import AppointmentStatus, Role
from services.kit.errors import BadRequest, FieldError, Forbidden
from services.kit.zones import zone

OPEN = {AppointmentStatus.PENDING, AppointmentStatus.CONFIRMED}
_ATTENDED_OR_NOT = {AppointmentStatus.COMPLETED, AppointmentStatus.NO_SHOW}
_NEXT = {
    AppointmentStatus.PENDING: {AppointmentStatus.CONFIRMED, AppointmentStatus.CANCELLED},
    AppointmentStatus.CONFIRMED: _ATTENDED_OR_NOT | {AppointmentStatus.CANCELLED},
}


def wall_time(starts_at: datetime, time_zone: str) -> datetime:
    """The clock on the wall in that zone, which is what people agree on."""
    return starts_at.astimezone(zone(time_zone)).replace(tzinfo=None, fold=0)


def revised(visit: Appointment, update: AppointmentUpdate, role: str, now: datetime) -> Appointment:
    """The visit as the update wants it, or the same where nothing changes; raises what speaks against it."""
    wanted = _with_status(visit, update, role, now)
    wanted = _moved(wanted, update, role, now)
    if update.notes is not UNSET and update.notes != visit.notes:
        if visit.date_time <= now:
            raise AlreadyStarted("Notes can be changed until the appointment starts")
        wanted = replace(wanted, notes=update.notes)
    return wanted


def _with_status(visit: Appointment, update: AppointmentUpdate, role: str, now: datetime) -> Appointment:
    status = update.status
    if status is UNSET or status == visit.status:
        return visit
    cancels = status == AppointmentStatus.CANCELLED
    if role == Role.PATIENT and not cancels:
        raise Forbidden("A patient may only cancel")
    corrects = role == Role.ADMIN and visit.status not in OPEN
    if not corrects and status not in _NEXT.get(visit.status, ()):
        raise IllegalTransition(f"{visit.status} does not become {status}")
    if corrects and update.reason is UNSET:
        raise BadRequest(errors=[FieldError("reason", "Required to correct a final status")])
    started = visit.date_time <= now
    if status in _ATTENDED_OR_NOT and not started:
        raise IllegalTransition(f"{status} is possible only after the start")
    if status == AppointmentStatus.PENDING and started:
        raise IllegalTransition("A request for a time that has passed would be cancelled as unanswered at once")
    if cancels and started and role == Role.PATIENT:
        raise CancellationTooLate
    reason = update.reason if cancels and update.reason is not UNSET else None
    return replace(visit, status=status, cancellation_reason=reason)


def _moved(visit: Appointment, update: AppointmentUpdate, role: str, now: datetime) -> Appointment:
    starts_at = visit.date_time if update.date_time is UNSET else update.date_time.astimezone(UTC)
    minutes = visit.duration_minutes if update.duration_minutes is UNSET else update.duration_minutes
    if (starts_at, minutes) == (visit.date_time, visit.duration_minutes):
        return visit
    if visit.status not in OPEN:
        raise IllegalTransition(f"An appointment that is {visit.status} cannot be moved")
    if visit.date_time <= now:
        raise AlreadyStarted("An appointment can be moved until it starts")
    return replace(
        visit,
        # The doctor had agreed to the other time.
        status=AppointmentStatus.PENDING if role == Role.PATIENT else visit.status,
        date_time=starts_at,
        duration_minutes=minutes,
        ends_at=starts_at + timedelta(minutes=minutes),
    )
