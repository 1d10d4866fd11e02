from services.kit.errors import Conflict, NotFound, ProblemError, Unprocessable


class SlotTaken(Conflict):
    """The response has `alternatives`: the next free times of the same length."""

    code, title = "slot_taken", "This time slot is not available"


class PatientBusy(Conflict):
    code, title = "patient_busy", "The patient has another appointment at this time"


class TooFar(Conflict):
    code, title = "too_far", "An appointment can be at most ten years ahead"


class TooManyOpen(Conflict):
    code, title = "too_many_open", "The patient has too many upcoming appointments"


class DoctorNotFound(NotFound):
    code, title = "doctor_not_found", "Doctor not found"


class PatientNotFound(NotFound):
    code, title = "patient_not_found", "Patient not found"


class DoctorUnavailable(Conflict):
    code, title = "doctor_unavailable", "This doctor is not accepting appointments"


class IllegalTransition(Conflict):
    code, title = "illegal_transition", "The appointment's current status does not allow this"


class AlreadyStarted(Conflict):
    code, title = "already_started", "The appointment has already started"


class CancellationTooLate(Conflict):
    code, title = "cancellation_too_late", "It is too late to cancel this appointment"


class IdempotencyKeyReused(Unprocessable):
    code, title = "idempotency_key_reused", "This Idempotency-Key was used for a different request"


class RequestInProgress(Conflict):
    code, title = "request_in_progress", "A request with this Idempotency-Key is still running"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


CONSTRAINTS: dict[str, type[ProblemError]] = {
    "appointment_doctor_no_overlap": SlotTaken,
    "appointment_patient_no_overlap": PatientBusy,
}
