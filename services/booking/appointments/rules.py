"""What may become of an appointment: pure decisions on the request, and on what was read under the locks."""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from services.booking.appointments.schemas import Appointment, AppointmentCreate, AppointmentUpdate, BookedType
from services.booking.appointments.terms import Terms
from services.booking.errors import AlreadyStarted, CancellationTooLate, IllegalTransition
from services.booking.holds.repository import Held
from services.booking.idempotency import Answer
from services.booking.time.chosen_type import ChosenType
from services.booking.time.fields import DEFAULT_MINUTES
from services.booking.time.obstacles import Claim, Obstacles
from services.booking.time.requests import refuse_out_of_range, requested_claim, wall_time
from services.contracts.enums import AppointmentMode, AppointmentStatus, Role
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError, Forbidden

OPEN = {AppointmentStatus.PENDING, AppointmentStatus.CONFIRMED}
_ATTENDED_OR_NOT = {AppointmentStatus.COMPLETED, AppointmentStatus.NO_SHOW}
_NEXT = {
    AppointmentStatus.PENDING: {AppointmentStatus.CONFIRMED, AppointmentStatus.CANCELLED},
    AppointmentStatus.CONFIRMED: _ATTENDED_OR_NOT | {AppointmentStatus.CANCELLED},
}


def claim_of(principal: Principal, wanted: AppointmentCreate) -> Claim:
    """Return the time that is asked for, without what its type adds; raises what the request alone forbids."""
    if wanted.overbook and principal.role == Role.PATIENT:
        raise Forbidden("Only the doctor or an admin can overbook")
    minutes = DEFAULT_MINUTES if wanted.duration_minutes is UNSET else wanted.duration_minutes
    claim = requested_claim(principal, wanted.doctor_id, wanted.patient_id, wanted.starts_at, minutes)
    if wanted.overbook and wanted.reason is None:
        raise BadRequest(errors=[FieldError("reason", "Required to overbook")])
    if wanted.overbook and wanted.hold_id is not None:
        raise BadRequest(errors=[FieldError("overbook", "Cannot be combined with holdId")])
    return claim


def refuse_other_than_held(wanted: AppointmentCreate, claim: Claim, held: Held) -> None:
    """Raise for a body that asks for another time than the hold's; what is left out is the hold's."""
    length = claim.ends_at if wanted.duration_minutes is not UNSET else held.ends_at
    same = {
        "doctorId": claim.doctor_id == held.doctor_id,
        "patientId": claim.patient_id == held.patient_id,
        "dateTime": claim.starts_at == held.starts_at,
        "typeId": wanted.type_id in (None, held.type_id),
        "durationMinutes": length == held.ends_at,
    }
    if wrong := [name for name, is_same in same.items() if not is_same]:
        raise BadRequest(errors=[FieldError(name, "Not that of the hold") for name in wrong])


def is_confirmed_at_once(requires_confirmation: bool | None, obstacles: Obstacles) -> bool:
    """Tell whether nobody has to confirm: the type decides, or else the doctor's schedule."""
    return obstacles.auto_confirm if requires_confirmation is None else not requires_confirmation


def terms_of(claim: Claim, chosen: ChosenType) -> Terms:
    """Return the terms of a new appointment."""
    return Terms(claim.buffer_before, claim.buffer_after, chosen.requires_confirmation, chosen.new_join_url())


def new_appointment(claim: Claim, wanted: AppointmentCreate, obstacles: Obstacles) -> Appointment:
    """Return the appointment of a claim that has the length of its type."""
    time_zone, chosen = obstacles.doctor_time_zone or "UTC", obstacles.type
    confirmed = is_confirmed_at_once(chosen.requires_confirmation, obstacles)
    return Appointment(
        id=claim.appointment_id,
        patient_id=claim.patient_id,
        doctor_id=claim.doctor_id,
        patient_name=obstacles.patient_name,
        doctor_name=obstacles.doctor_name,
        starts_at=claim.starts_at,
        ends_at=claim.ends_at,
        duration_minutes=(claim.ends_at - claim.starts_at) // timedelta(minutes=1),
        time_zone=time_zone,
        local_starts_at=wall_time(claim.starts_at, time_zone),
        status=AppointmentStatus.CONFIRMED if confirmed else AppointmentStatus.PENDING,
        notes=wanted.notes,
        # Only where it was needed: at a free time the appointment keeps the protection of the constraint.
        overbooked=obstacles.doctor_busy,
        cancellation_reason=None,
        version=1,
        created_at=obstacles.now,
        updated_at=obstacles.now,
        type=_booked(chosen),
    )


def created(appointment: Appointment) -> Answer:
    """Return the answer to the request that made it, to be stored in the statement that writes it."""
    return Answer(
        status=201,
        location=f"/api/appointments/{appointment.id}",
        etag=appointment.etag,
        body=msgspec.json.encode(appointment),
        stored=True,
    )


def _booked(chosen: ChosenType) -> BookedType | None:
    if chosen.id is None or chosen.name is None or chosen.mode is None:
        return None
    return BookedType(id=chosen.id, name=chosen.name, mode=AppointmentMode(chosen.mode), price=chosen.price)


def refuse_malformed(update: AppointmentUpdate) -> None:
    if update.status is not UNSET and update.moves:
        raise BadRequest(errors=[FieldError("status", "Cannot be combined with dateTime or durationMinutes")])
    if update.reason is not UNSET and update.status is UNSET and not update.moves:
        raise BadRequest(errors=[FieldError("reason", "Needs a change of status or time")])
    if update.starts_at is not UNSET:
        refuse_out_of_range(update.starts_at)


def apply_update(
    appointment: Appointment, update: AppointmentUpdate, role: str, now: datetime, cutoff: timedelta
) -> Appointment:
    """Return the appointment with the update, or as it is when nothing changes; raises what forbids the update.

    A patient cannot cancel or move it when less than `cutoff` is left until its start.
    """
    wanted = _with_status(appointment, update, role, now, cutoff)
    wanted = _moved(wanted, update, role, now, cutoff)
    if update.notes is not UNSET and update.notes != appointment.notes:
        if appointment.starts_at <= now:
            raise AlreadyStarted("Notes can be changed until the appointment starts")
        wanted = replace(wanted, notes=update.notes)
    return wanted


def _with_status(
    appointment: Appointment, update: AppointmentUpdate, role: str, now: datetime, cutoff: timedelta
) -> Appointment:
    status = update.status
    if status is UNSET or status == appointment.status:
        return appointment
    cancels = status == AppointmentStatus.CANCELLED
    if role == Role.PATIENT and not cancels:
        raise Forbidden("A patient can only cancel")
    corrects = role == Role.ADMIN and appointment.status not in OPEN
    if not corrects and status not in _NEXT.get(appointment.status, ()):
        raise IllegalTransition(f"{appointment.status} cannot become {status}")
    if corrects and update.reason is UNSET:
        raise BadRequest(errors=[FieldError("reason", "Required to correct a final status")])
    started = appointment.starts_at <= now
    if status in _ATTENDED_OR_NOT and not started:
        raise IllegalTransition(f"{status} is possible only after the start")
    if status == AppointmentStatus.PENDING and started:
        raise IllegalTransition("A request whose start has passed would be cancelled as unanswered at once")
    if cancels and role == Role.PATIENT:
        _refuse_too_late(appointment, now, cutoff)
    reason = update.reason if cancels and update.reason is not UNSET else None
    return replace(appointment, status=status, cancellation_reason=reason)


def _refuse_too_late(appointment: Appointment, now: datetime, cutoff: timedelta) -> None:
    if appointment.starts_at - cutoff <= now:
        minutes = int(cutoff.total_seconds()) // 60
        until = f"until {minutes} minutes before the start" if minutes else "until it starts"
        raise CancellationTooLate(f"Patients can cancel or move an appointment with this doctor {until}")


def _moved(
    appointment: Appointment, update: AppointmentUpdate, role: str, now: datetime, cutoff: timedelta
) -> Appointment:
    starts_at = appointment.starts_at if update.starts_at is UNSET else update.starts_at.astimezone(UTC)
    minutes = appointment.duration_minutes if update.duration_minutes is UNSET else update.duration_minutes
    if (starts_at, minutes) == (appointment.starts_at, appointment.duration_minutes):
        return appointment
    if appointment.status not in OPEN:
        raise IllegalTransition(f"An appointment that is {appointment.status} cannot be moved")
    if appointment.starts_at <= now:
        raise AlreadyStarted("An appointment can be moved until it starts")
    if role == Role.PATIENT and appointment.type is not None and minutes != appointment.duration_minutes:
        raise BadRequest(
            errors=[FieldError("durationMinutes", "Its type has this length; ask the doctor to change it")]
        )
    if role == Role.PATIENT:
        _refuse_too_late(appointment, now, cutoff)
    return replace(
        appointment,
        # The doctor had agreed to another time.
        status=AppointmentStatus.PENDING if role == Role.PATIENT else appointment.status,
        starts_at=starts_at,
        duration_minutes=minutes,
        ends_at=starts_at + timedelta(minutes=minutes),
        join_url=None,  # the row's is of the time before
    )
