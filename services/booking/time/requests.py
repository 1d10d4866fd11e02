"""What a request for time may ask: decided by the request alone, before anything is read."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from services.booking.errors import TooFar
from services.booking.time.obstacles import Claim
from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError, Forbidden
from services.kit.zones import zone

TEN_YEARS = timedelta(days=3653)


def requested_claim(
    principal: Principal, doctor_id: UUID, patient_id: UUID | None, starts_at: datetime, minutes: int
) -> Claim:
    """Return the time that is asked for, with an id of its own; raises what the request alone forbids."""
    if principal.role == Role.PATIENT:
        if patient_id not in (None, principal.id):
            raise Forbidden("A patient can only book for themselves")
        patient_id = principal.id
    if principal.role == Role.DOCTOR and doctor_id != principal.id:
        raise Forbidden("A doctor can only book in their own calendar")
    if patient_id is None:
        raise BadRequest(errors=[FieldError("patientId", "Required")])
    refuse_out_of_range(starts_at)
    starts_at = starts_at.astimezone(UTC)
    return Claim(uuid7(), doctor_id, patient_id, starts_at, starts_at + timedelta(minutes=minutes))


def refuse_out_of_range(starts_at: datetime) -> None:
    """Keep the calendar's arithmetic in range. About the recent past only the database's clock decides."""
    now = datetime.now(UTC)
    if starts_at > now + TEN_YEARS:
        raise TooFar("An appointment can be at most ten years ahead")
    if starts_at < now - TEN_YEARS:
        refuse_past(starts_at, now)


def refuse_past(starts_at: datetime, now: datetime) -> None:
    if starts_at <= now:
        raise BadRequest(errors=[FieldError("dateTime", "Expected a time in the future")])


def wall_time(starts_at: datetime, time_zone: str) -> datetime:
    """Return the local time in that zone, which is what patient and doctor agree on."""
    return starts_at.astimezone(zone(time_zone)).replace(tzinfo=None, fold=0)
