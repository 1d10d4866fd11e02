from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from services.booking.appointments.preconditions import IfMatch
from services.booking.appointments.reads import AppointmentReads
from services.booking.appointments.schemas import (
    Appointment,
    AppointmentCreate,
    AppointmentUpdate,
    HistoryEntry,
)
from services.booking.appointments.service import BookingService
from services.booking.errors import (
    AlreadyStarted,
    CancellationTooLate,
    DoctorNotFound,
    DoctorUnavailable,
    IdempotencyKeyReused,
    IllegalTransition,
    PatientBusy,
    PatientNotFound,
    RequestInProgress,
    SlotTaken,
    TooFar,
)
from services.booking.idempotency import RequestKey
from services.contracts.enums import AppointmentStatus, Role
from services.kit.errors import NotFound, PreconditionFailed, TooManyRequests
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, JsonResponse, responses
from services.kit.http.schema import INSTANT, Instant, parse_instant

_ANYONE = requires(Role.PATIENT, Role.DOCTOR, Role.ADMIN)
_BOOK_ROUTE = "POST /api/appointments"


def _header(name: str, description: str) -> ResponseHeader:
    return ResponseHeader(name=name, description=description, documentation_only=True)


_LOCATION = _header("Location", "The appointment's address")
_ETAG = _header("ETag", "The appointment's version")
_REPLAYED = _header("Idempotency-Replayed", "`true` on the answer of an earlier request with this key")


class AppointmentController(Controller):
    path = "/api/appointments"
    tags = ["Appointments"]
    opt = record("appointment")

    @post(
        summary="Book an appointment",
        operation_id="bookAppointment",
        before_request=_ANYONE,
        responses=responses(
            *CALLER_CHECKED,
            DoctorNotFound,
            PatientNotFound,
            SlotTaken,
            PatientBusy,
            DoctorUnavailable,
            TooFar,
            RequestInProgress,
            IdempotencyKeyReused,
            TooManyRequests,
        ),
        response_headers=[_LOCATION, _ETAG, _REPLAYED],
    )
    async def book(
        self,
        data: JSONBody[AppointmentCreate],
        booking: NamedDependency[BookingService],
        request: AuthenticatedRequest,
        idempotency_key: Annotated[
            str | None,
            HeaderParameter(
                name="Idempotency-Key",
                description="1 to 255 visible ASCII characters. The same key with the same body is answered with the "
                "first answer, byte for byte, for at least 24 hours",
            ),
        ] = None,
    ) -> Response[Appointment]:
        """A patient books for themselves; a doctor, in their own calendar, and an admin name the patient.

        The appointment is PENDING until the doctor confirms it, and is cancelled as `unanswered` should it begin
        before. It takes 30 minutes unless `durationMinutes` says otherwise, and begins in the future, at most ten years
        ahead. `overbook`, for the doctor or an admin, is the only way past another appointment of the doctor; it needs
        a `reason`. A patient is never in two places at once. A refusal as `slot_taken` carries `alternatives`: the next
        three times that are free.
        """
        key = RequestKey.of(idempotency_key, user_id=request.user.id, route=_BOOK_ROUTE, body=data)
        answer = await booking.book(request.user, data, key)
        return JsonResponse[Any](answer.body, status_code=answer.status, headers=answer.headers)

    @get(
        summary="List appointments",
        operation_id="listAppointments",
        before_request=_ANYONE,
        responses=responses(*WITH_ROLE),
    )
    async def list_appointments(
        self,
        appointments: NamedDependency[AppointmentReads],
        request: AuthenticatedRequest,
        status: FromQuery[AppointmentStatus | None] = None,
        from_: Annotated[
            str | None,
            QueryParameter(name="from", max_length=64, schema_extra=INSTANT, description="The earliest `dateTime`"),
        ] = None,
        to: Annotated[
            str | None, QueryParameter(max_length=64, schema_extra=INSTANT, description="The `dateTime` to end before")
        ] = None,
        doctor_id: Annotated[UUID | None, QueryParameter(name="doctorId")] = None,
        patient_id: Annotated[UUID | None, QueryParameter(name="patientId")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Appointment]:
        """One's own appointments, or everybody's for an admin, by `dateTime` descending, then id."""
        found = await appointments.list(
            request.user,
            limit=limit + 1,
            after=decode_cursor(cursor, tuple[Instant, UUID]),
            status=status,
            from_=parse_instant(from_, "from"),
            to=parse_instant(to, "to"),
            doctor_id=doctor_id,
            patient_id=patient_id,
        )
        return Page.of(found, limit, lambda appointment: (appointment.starts_at, appointment.id))

    @get(
        "/{id:uuid}",
        summary="Get an appointment",
        operation_id="getAppointment",
        before_request=_ANYONE,
        responses=responses(*WITH_ROLE, NotFound),
        response_headers=[_ETAG],
    )
    async def get_appointment(
        self,
        id: FromPath[UUID],
        appointments: NamedDependency[AppointmentReads],
        request: AuthenticatedRequest,
    ) -> Response[Appointment]:
        """For its patient, its doctor and admins. To everybody else it does not exist."""
        return _with_etag(await appointments.get(request.user, id))

    @patch(
        "/{id:uuid}",
        summary="Change an appointment",
        operation_id="changeAppointment",
        before_request=_ANYONE,
        responses=responses(
            *CALLER_CHECKED,
            NotFound,
            DoctorNotFound,
            PatientNotFound,
            IllegalTransition,
            AlreadyStarted,
            CancellationTooLate,
            SlotTaken,
            PatientBusy,
            DoctorUnavailable,
            TooFar,
            PreconditionFailed,
        ),
        response_headers=[_ETAG],
    )
    async def change(
        self,
        id: FromPath[UUID],
        data: JSONBody[AppointmentUpdate],
        booking: NamedDependency[BookingService],
        request: AuthenticatedRequest,
        if_match: Annotated[
            str | None,
            HeaderParameter(name="If-Match", description='Change it only while its ETag is this one, such as `"3"`'),
        ] = None,
    ) -> Response[Appointment]:
        """A new status, another time, or other notes; what is absent stays as it is, and `notes: null` clears them.

        PENDING becomes CONFIRMED or CANCELLED, and CONFIRMED becomes COMPLETED or NO_SHOW (after the start) or
        CANCELLED; the rest is final, but an admin may correct it with a `reason`. A patient may only cancel, until the
        start. Either party may move a PENDING or CONFIRMED visit by `dateTime` and `durationMinutes`, under the rules
        of a booking; one that the patient moves is PENDING again. `status` does not go together with a move. Notes can
        be changed until the start. Each change raises `version` by one; what is as wanted already stays unchanged.
        """
        return _with_etag(await booking.change(request.user, id, data, IfMatch(if_match)))

    @get(
        "/{id:uuid}/history",
        summary="Get an appointment's history",
        operation_id="getAppointmentHistory",
        before_request=_ANYONE,
        responses=responses(*WITH_ROLE, NotFound),
    )
    async def get_history(
        self,
        id: FromPath[UUID],
        appointments: NamedDependency[AppointmentReads],
        request: AuthenticatedRequest,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[HistoryEntry]:
        """Who changed what and when, oldest first: an entry for each version. For those who may see the appointment."""
        after_version = decode_cursor(cursor, int) or 0
        found = await appointments.history(request.user, id, limit=limit + 1, after_version=after_version)
        return Page.of(found, limit, lambda entry: entry.version)


def _with_etag(appointment: Appointment) -> Response[Appointment]:
    return JsonResponse(appointment, headers={"ETag": appointment.etag})
