from services.kit.errors import Conflict, NotFound, ProblemError, Unprocessable


class SlotTaken(Conflict):
    """The response has `alternatives`: the next free times of the same length."""

    code, title = "slot_taken", "This time slot is not available"
    when = "Another appointment of the doctor occupies part of the requested time, or it is held for another patient."
    remedy = "Offer the times in `alternatives`, and book one of them with another Idempotency-Key."


class PatientBusy(Conflict):
    code, title = "patient_busy", "The patient has another appointment at this time"
    when = "The patient has an appointment, perhaps with another doctor, or a hold that overlaps the requested time."
    remedy = "Let the patient choose another time, move the other appointment, or book the hold by its `holdId`."


class OutsideAvailability(Conflict):
    """The response has `alternatives`, as that of `slot_taken`."""

    code, title = "outside_availability", "The doctor's hours do not allow this time"
    when = (
        "The time is not within the doctor's hours, or a patient asks for a start that `GET /api/slots` does not list."
    )
    remedy = "Offer the times in `alternatives`, or those of `GET /api/slots`."


class TooSoon(Conflict):
    """The response has `alternatives`, as that of `slot_taken`."""

    code, title = "too_soon", "This time is too soon to be booked"
    when = "The doctor asks patients for more notice before the start."
    remedy = "Offer the times in `alternatives`, or let the doctor book."


class TooFar(Conflict):
    code, title = "too_far", "This time is too far ahead to be booked"
    when = "The start is further ahead than the doctor lets patients book, or than ten years."
    remedy = "Choose an earlier time."


class HoldExpired(Conflict):
    """The response has `alternatives`, as that of `slot_taken`."""

    code, title = "hold_expired", "The hold has ended, and its time is not free"
    when = "`holdId` is a hold that has expired, or was booked before, and its time is taken."
    remedy = "Offer the times in `alternatives`, and hold or book one of them."


class TooManyOpen(Conflict):
    code, title = "too_many_open", "The patient has too many upcoming appointments"
    when = (
        "What a patient may have booked ahead is limited, more so before the e-mail address is verified; a doctor can "
        "set a limit, too. At most three times are held for a patient at once."
    )
    remedy = (
        "Cancel an appointment or release a hold, let the doctor book, or verify the e-mail address if it is not yet."
    )


class DoctorNotFound(NotFound):
    code, title = "doctor_not_found", "Doctor not found"
    when = "No approved doctor has this id."
    remedy = "Choose a doctor from `GET /api/doctors`."


class PatientNotFound(NotFound):
    code, title = "patient_not_found", "Patient not found"
    when = "No patient has this id."
    remedy = "Check `patientId`."


class TypeNotFound(NotFound):
    code, title = "type_not_found", "Appointment type not found"
    when = "The doctor has no appointment type with this id."
    remedy = "Choose one of `GET /api/availability/{doctorId}/types`."


class TypeUnavailable(Conflict):
    code, title = "type_unavailable", "This appointment type cannot be booked"
    when = (
        "The appointment type is not active, or the patient may not book it; or a patient names none, and the doctor "
        "has none that everyone may book."
    )
    remedy = "Offer another active type of `GET /api/availability/{doctorId}/types`, or let the doctor book."


class TooManyTypes(Conflict):
    code, title = "too_many_types", "The doctor has too many appointment types"
    when = "A doctor has at most 50 appointment types, with those that are not active."
    remedy = "Change one that is not active and activate it again, or delete one that was never booked."


class NoAvailability(NotFound):
    code, title = "no_availability", "The doctor has not set any hours"
    when = "The availability of a doctor is read who has not set hours, and who can be booked at any future time."
    remedy = "Offer any time, or let the doctor set hours."


class DoctorUnavailable(Conflict):
    code, title = "doctor_unavailable", "This doctor is not accepting appointments"
    when = "The doctor's account is suspended."
    remedy = "Choose another doctor."


class AppointmentsAffected(Conflict):
    """The response has `appointments`, the first of those affected, and `count`, their number."""

    code, title = "appointments_affected", "Appointments are booked at this time; choose with `onConflict`"
    when = (
        "Upcoming appointments are in the leave or outside the new hours, and `onConflict` does not say what happens."
    )
    remedy = "Show the user `appointments`, and repeat the request with `?onConflict=keep` or `?onConflict=cancel`."


class TooManyExceptions(Conflict):
    code, title = "too_many_exceptions", "The doctor has too many exceptions"
    when = "The doctor has 500 exceptions that are not over."
    remedy = "Remove some, or change the weekly hours."


class IllegalTransition(Conflict):
    code, title = "illegal_transition", "The appointment's current status does not allow this"
    when = "The appointment's status does not lead to the requested one, or not before the start."
    remedy = "Read the appointment again, and offer what its status allows."


class AlreadyStarted(Conflict):
    code, title = "already_started", "The appointment has already started"
    when = "The change is possible only before the appointment starts."
    remedy = "Do not repeat it."


class CancellationTooLate(Conflict):
    code, title = "cancellation_too_late", "It is too late to cancel or move this appointment"
    when = "A patient can cancel an appointment until it starts, or cancel and move it until the doctor's cut-off."
    remedy = "Ask the doctor to cancel or move it."


class IdempotencyKeyReused(Unprocessable):
    code, title = "idempotency_key_reused", "This Idempotency-Key was used for a different request"
    when = "The key belongs to an earlier request with another body."
    remedy = "Choose a new key for each new request, and send a key again only with the same body."


class RequestInProgress(Conflict):
    code, title = "request_in_progress", "A request with this Idempotency-Key is still running"
    when = "The first request with this Idempotency-Key has not been answered yet."
    remedy = "Send the same request again after as many seconds as `Retry-After` says."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


CONSTRAINTS: dict[str, type[ProblemError]] = {
    "appointment_doctor_no_overlap": SlotTaken,
    "appointment_patient_no_overlap": PatientBusy,
}
