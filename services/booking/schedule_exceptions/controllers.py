from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, PathParameter, QueryParameter

from services.booking import errors
from services.booking.availability.conflicts import OnConflict
from services.booking.availability.service import refuse_others
from services.booking.idempotency import RequestKey
from services.booking.schedule_exceptions.reads import ScheduleExceptionReads
from services.booking.schedule_exceptions.schemas import ExceptionCreate, ScheduleException, ScheduleExceptionChange
from services.booking.schedule_exceptions.service import ScheduleExceptionService
from services.contracts.enums import Role
from services.kit.errors import NotFound, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, caller_of, requires
from services.kit.http.idempotency import REPLAYED, IdempotencyKey
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, JsonResponse, responses
from services.kit.schema import Instant

DoctorId = Annotated[UUID, PathParameter(name="doctorId")]
_STAFF = requires(Role.DOCTOR, Role.ADMIN)
_RECORD = record("availability")
_ADD_ROUTE = "POST /api/availability/{doctorId}/exceptions"
_OnConflict = Annotated[
    OnConflict | None,
    QueryParameter(name="onConflict", description="What happens to appointments that are booked at this time"),
]


class _Asked(msgspec.Struct):
    """What a repeated request must have in common with the first one of its key."""

    doctor_id: UUID
    on_conflict: OnConflict | None
    exception: ExceptionCreate


class ScheduleExceptionController(Controller):
    path = "/api/availability/{doctorId:uuid}/exceptions"
    tags = ["Availability"]

    @post(
        summary="Add leave or extra hours",
        operation_id="addAvailabilityException",
        before_request=_STAFF,
        responses=responses(
            *CALLER_CHECKED,
            errors.DoctorNotFound,
            errors.AppointmentsAffected,
            errors.TooManyExceptions,
            errors.RequestInProgress,
            errors.IdempotencyKeyReused,
            TooManyRequests,
        ),
        response_headers=[
            ResponseHeader(name="Location", description="The path of the exception", documentation_only=True),
            REPLAYED,
        ],
        opt=_RECORD,
    )
    async def add(
        self,
        doctor_id: DoctorId,
        data: JSONBody[ExceptionCreate],
        exceptions: NamedDependency[ScheduleExceptionService],
        request: AuthenticatedRequest,
        on_conflict: _OnConflict = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[ScheduleException]:
        """For that doctor and admins. Times are local times of the doctor's zone, and stay these times when the clocks
        change. An exception is at most 366 days long, and a doctor has at most 500 that are not over.

        The doctor is open in the weekly hours, except on public holidays, and in EXTRA hours, and never in OFF: leave
        wins over both. Also a doctor without weekly hours, who can be booked at any future time, can be OFF.

        Upcoming appointments of which a part is in the leave are `appointments_affected`, which lists the first 100 as
        `appointments` and says as `count` how many they are, and nothing changes. `onConflict=keep` leaves them as they
        are, and `cancel` cancels them with the reason `doctor_unavailable`.
        """
        asked = _Asked(doctor_id, on_conflict, data)
        key = RequestKey.of(idempotency_key, user_id=request.user.id, route=_ADD_ROUTE, body=asked)
        answer = await exceptions.add(request.user, doctor_id, data, key, on_conflict)
        return JsonResponse[Any](answer.body, status_code=answer.status, headers=answer.headers)

    @get(
        summary="List a doctor's leave and extra hours",
        operation_id="listAvailabilityExceptions",
        security=PUBLIC,
        responses=responses(errors.DoctorNotFound, Unavailable),
        opt=_RECORD,
    )
    async def list_exceptions(
        self,
        doctor_id: DoctorId,
        exceptions_read: NamedDependency[ScheduleExceptionReads],
        request: Request[Any, Any, Any],
        from_: Annotated[
            date | None, QueryParameter(name="from", description="With a part on this day or later; today by default")
        ] = None,
        to: Annotated[date | None, QueryParameter(name="to", description="With a start before this day")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[ScheduleException]:
        """By start, then by id. Only that doctor and admins see a `reason`.

        A doctor who is not approved yet is seen by that doctor and by admins.
        """
        found = await exceptions_read.list(
            caller_of(request),
            doctor_id,
            first=from_ or datetime.now(UTC).date(),
            end=to,
            after=_position(decode_cursor(cursor, tuple[Instant, UUID])),
            limit=limit + 1,
        )
        return Page.of(found, limit, lambda one: (datetime.fromisoformat(f"{one.from_}T{one.start}Z"), one.id))

    @delete(
        "/{id:uuid}",
        summary="Remove leave or extra hours",
        operation_id="removeAvailabilityException",
        before_request=_STAFF,
        responses=responses(
            *CALLER_CHECKED, NotFound, errors.DoctorNotFound, errors.AppointmentsAffected, TooManyRequests
        ),
        opt=_RECORD,
    )
    async def remove(
        self,
        doctor_id: DoctorId,
        id: FromPath[UUID],
        exceptions: NamedDependency[ScheduleExceptionService],
        request: AuthenticatedRequest,
        on_conflict: _OnConflict = None,
    ) -> None:
        """For that doctor and admins. `onConflict` is about appointments that are booked in the extra hours."""
        await exceptions.remove(request.user, doctor_id, id, on_conflict)

    @get(
        "/history",
        summary="Get the history of a doctor's leave and extra hours",
        operation_id="getAvailabilityExceptionHistory",
        before_request=_STAFF,
        responses=responses(*WITH_ROLE, NotFound),
        opt=_RECORD,
    )
    async def get_history(
        self,
        doctor_id: DoctorId,
        exceptions_read: NamedDependency[ScheduleExceptionReads],
        request: AuthenticatedRequest,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[ScheduleExceptionChange]:
        """One entry for each exception that was added or removed, oldest first. For that doctor and admins."""
        refuse_others(request.user, doctor_id)
        after_revision = decode_cursor(cursor, int) or 0
        found = await exceptions_read.history(doctor_id, limit=limit + 1, after_revision=after_revision)
        return Page.of(found, limit, lambda change: change.revision)


def _position(cursor: tuple[datetime, UUID] | None) -> tuple[datetime, UUID] | None:
    """Return the local time and the id of a cursor, which has the time as if it were in UTC: none has naive ones."""
    return cursor and (cursor[0].astimezone(UTC).replace(tzinfo=None), cursor[1])
