from services.kit.errors import Conflict, NotFound, ProblemError, Unprocessable


class SlotTaken(Conflict):
    """Carries `alternatives`: the next free times of the same length."""

    code, title = "slot_taken", "This time slot is not available"


class PatientBusy(Conflict):
    code, title = "patient_busy", "The patient has another appointment at this time"


class TooFar(Conflict):
    code, title = "too_far", "Appointments are made at most ten years ahead"


class DoctorNotFound(NotFound):
    code, title = "doctor_not_found", "There is no such doctor"


class PatientNotFound(NotFound):
    code, title = "patient_not_found", "There is no such patient"


class DoctorUnavailable(Conflict):
    code, title = "doctor_unavailable", "This doctor takes no appointments at present"


class IllegalTransition(Conflict):
    code, title = "illegal_transition", "The appointment's present status does not allow this"


class AlreadyStarted(Conflict):
    code, title = "already_started", "The appointment has already started"


class CancellationTooLate(Conflict):
    code, title = "cancellation_too_late", "It is too late to cancel this appointment"


class IdempotencyKeyReused(Unprocessable):
    code, title = "idempotency_key_reused", "This Idempotency-Key came with another request before"


class RequestInProgress(Conflict):
    code, title = "request_in_progress", "The first request with this Idempotency-Key is still running"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


CONSTRAINTS: dict[str, type[ProblemError]] = {
    "appointment_doctor_no_overlap": SlotTaken,
    "appointment_patient_no_overlap": PatientBusy,
}
