from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from services.booking import errors
from services.booking.appointments.reads import AppointmentReads
from services.booking.appointments.schemas import (
    Appointment,
    AppointmentCreate,
    AppointmentUpdate,
    HistoryEntry,
)
from services.booking.appointments.service import BookingService
from services.booking.idempotency import RequestKey
from services.contracts.enums import AppointmentStatus, Role
from services.kit.errors import NotFound, PreconditionFailed, TooManyRequests
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.idempotency import REPLAYED, IdempotencyKey
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.preconditions import IfMatch
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, JsonResponse, responses
from services.kit.schema import INSTANT, Instant, parse_instant

_ANY_ROLE = requires(Role.PATIENT, Role.DOCTOR, Role.ADMIN)
_BOOK_ROUTE = "POST /api/appointments"
_CLAIM_REFUSED = (
    errors.DoctorNotFound,
    errors.PatientNotFound,
    errors.SlotTaken,
    errors.PatientBusy,
    errors.DoctorUnavailable,
    errors.OutsideAvailability,
    errors.TooSoon,
    errors.TooFar,
    errors.TooManyOpen,
)
_TYPE_REFUSED = (errors.TypeNotFound, errors.TypeUnavailable)


def _header(name: str, description: str) -> ResponseHeader:
    return ResponseHeader(name=name, description=description, documentation_only=True)


def _instant(name: str, description: str) -> QueryParameter:
    return QueryParameter(name=name, max_length=64, schema_extra=INSTANT, description=description)


_LOCATION = _header("Location", "The path of the appointment")
_ETAG = _header("ETag", "The appointment's version")


class AppointmentController(Controller):
    path = "/api/appointments"
    tags = ["Appointments"]
    opt = record("appointment")

    @post(
        summary="Book an appointment",
        operation_id="bookAppointment",
        before_request=_ANY_ROLE,
        responses=responses(
            *CALLER_CHECKED,
            *_CLAIM_REFUSED,
            errors.HoldExpired,
            NotFound,
            *_TYPE_REFUSED,
            errors.RequestInProgress,
            errors.IdempotencyKeyReused,
            TooManyRequests,
        ),
        response_headers=[_LOCATION, _ETAG, REPLAYED],
    )
    async def book(
        self,
        data: JSONBody[AppointmentCreate],
        booking: NamedDependency[BookingService],
        request: AuthenticatedRequest,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[Appointment]:
        """Patients book for themselves. A doctor, in their own calendar, and an admin name the patient.

        The appointment is PENDING until the doctor confirms it, or CONFIRMED at once with `autoConfirm`. If it starts
        before that, it is cancelled with the reason `unanswered`. It starts in the future, at most ten years ahead.

        With `typeId` it has the length, the buffers and the price of that appointment type. Of a doctor with active
        types a patient always books one: without `typeId` the first, by `position`, that everyone may book, of
        `durationMinutes` if they are given. Only the doctor and admins change its length by `durationMinutes`. Without
        a type an appointment takes 30 minutes, or `durationMinutes`.

        Where the doctor has set hours, it lies within them (`outside_availability`); a patient
        books one of the starts that `GET /api/slots` lists, and observes notice and horizon (`too_soon`, `too_far`).
        Only `overbook`, which is for the doctor and admins and needs a `reason`, books a time outside the hours, or one
        that another appointment of the doctor occupies; nothing books a patient twice at one time. What a patient
        books for themselves is limited to a number of upcoming appointments and hours (`too_many_open`), a smaller one
        until the e-mail address is verified. The response to a time that is taken, outside the hours or too soon has
        `alternatives`: the next three times that can be booked.

        With `holdId` the hold becomes the appointment, of the same id. `doctorId`, `dateTime` and `patientId` are those
        of the hold, and so are type and length: leave `typeId` and `durationMinutes` out. Notice and horizon are
        counted from when the time was held. A hold that has expired books its time if it is still free, and is else
        refused (`hold_expired`, with `alternatives`).
        """
        key = RequestKey.of(idempotency_key, user_id=request.user.id, route=_BOOK_ROUTE, body=data.fingerprinted)
        answer = await booking.book(request.user, data, key)
        return JsonResponse[Any](answer.body, status_code=answer.status, headers=answer.headers)

    @get(
        summary="List appointments",
        operation_id="listAppointments",
        before_request=_ANY_ROLE,
        responses=responses(*WITH_ROLE),
    )
    async def list_appointments(
        self,
        appointments: NamedDependency[AppointmentReads],
        request: AuthenticatedRequest,
        status: FromQuery[AppointmentStatus | None] = None,
        from_: Annotated[str | None, _instant("from", "Inclusive lower bound of `dateTime`")] = None,
        to: Annotated[str | None, _instant("to", "Exclusive upper bound of `dateTime`")] = None,
        doctor_id: Annotated[UUID | None, QueryParameter(name="doctorId")] = None,
        patient_id: Annotated[UUID | None, QueryParameter(name="patientId")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Appointment]:
        """The caller's own appointments, or all of them for an admin, sorted by `dateTime` descending, then by id."""
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
        before_request=_ANY_ROLE,
        responses=responses(*WITH_ROLE, NotFound),
        response_headers=[_ETAG],
    )
    async def get_appointment(
        self,
        id: FromPath[UUID],
        appointments: NamedDependency[AppointmentReads],
        request: AuthenticatedRequest,
    ) -> Response[Appointment]:
        """For its patient, its doctor and admins; any other caller gets 404."""
        return _with_etag(await appointments.get(request.user, id))

    @patch(
        "/{id:uuid}",
        summary="Change an appointment",
        operation_id="changeAppointment",
        before_request=_ANY_ROLE,
        responses=responses(
            *CALLER_CHECKED,
            *_CLAIM_REFUSED,
            NotFound,
            errors.IllegalTransition,
            errors.AlreadyStarted,
            errors.CancellationTooLate,
            PreconditionFailed,
            TooManyRequests,
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
            HeaderParameter(name="If-Match", description='Change it only if its ETag is this one, such as `"3"`'),
        ] = None,
    ) -> Response[Appointment]:
        """Change the status, the time or the notes. Absent fields stay as they are; `notes: null` clears the notes.

        PENDING becomes CONFIRMED or CANCELLED. CONFIRMED becomes CANCELLED or, after the start, COMPLETED or NO_SHOW.
        The rest is final, but an admin may correct it with a `reason`. A patient may only cancel, until the start.
        Either party may move a PENDING or CONFIRMED appointment by `dateTime` and `durationMinutes`, under the rules of
        a booking. It keeps its type and buffers; a patient cannot change the length of an appointment with a type. When
        the patient moves it, it is PENDING again unless its type or the doctor's `autoConfirm` confirms it at once.
        `status` cannot be combined with a move. Notes can be
        changed until the start. Each change raises `version` by one; a request that changes nothing does not.
        """
        return _with_etag(await booking.change(request.user, id, data, IfMatch(if_match)))

    @get(
        "/{id:uuid}/history",
        summary="Get an appointment's history",
        operation_id="getAppointmentHistory",
        before_request=_ANY_ROLE,
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
        """One entry for each version, oldest first: who changed what, and when. For callers who see the appointment."""
        after_version = decode_cursor(cursor, int) or 0
        found = await appointments.history(request.user, id, limit=limit + 1, after_version=after_version)
        return Page.of(found, limit, lambda entry: entry.version)


def _with_etag(appointment: Appointment) -> Response[Appointment]:
    return JsonResponse(appointment, headers={"ETag": appointment.etag})
