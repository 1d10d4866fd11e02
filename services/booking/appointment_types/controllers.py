from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, PathParameter

from services.booking import errors
from services.booking.appointment_types.reads import AppointmentTypeReads
from services.booking.appointment_types.schemas import AppointmentType, AppointmentTypeCreate, AppointmentTypeUpdate
from services.booking.appointment_types.service import AppointmentTypeService
from services.booking.idempotency import RequestKey
from services.contracts.enums import Role
from services.kit.errors import PreconditionFailed, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, caller_of, requires
from services.kit.http.idempotency import REPLAYED, IdempotencyKey
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.preconditions import IfMatch
from services.kit.http.responses import CALLER_CHECKED, JsonResponse, responses

DoctorId = Annotated[UUID, PathParameter(name="doctorId")]
_STAFF = requires(Role.DOCTOR, Role.ADMIN)
_RECORD = record("appointment_type")
_READ = (errors.DoctorNotFound, Unavailable)
_WRITE = (*CALLER_CHECKED, errors.DoctorNotFound, TooManyRequests)


def _header(name: str, description: str) -> ResponseHeader:
    return ResponseHeader(name=name, description=description, documentation_only=True)


def _if_match(what: str) -> HeaderParameter:
    return HeaderParameter(name="If-Match", description=f'{what} it only if its ETag is this one, such as `"3"`')


_ETAG = _header("ETag", "The version of the appointment type")
_LOCATION = _header("Location", "The path of the appointment type")
_DELETED = ResponseSpec(None, description="It was never booked, and is deleted", generate_examples=False)


class AppointmentTypeController(Controller):
    path = "/api/availability/{doctorId:uuid}/types"
    tags = ["Appointment types"]

    @get(
        summary="List a doctor's appointment types",
        operation_id="listAppointmentTypes",
        security=PUBLIC,
        responses=responses(*_READ),
    )
    async def list_types(
        self,
        doctor_id: DoctorId,
        types: NamedDependency[AppointmentTypeReads],
        request: Request[Any, Any, Any],
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[AppointmentType]:
        """By `position`, then id. The doctor and admins also see those that are not active.

        The types of a doctor who is not approved yet are seen by that doctor and by admins.
        """
        after = decode_cursor(cursor, tuple[int, UUID])
        found = await types.list(caller_of(request), doctor_id, limit=limit + 1, after=after)
        return Page.of(found, limit, lambda one: (one.position, one.id))

    @get(
        "/{id:uuid}",
        summary="Get an appointment type",
        operation_id="getAppointmentType",
        security=PUBLIC,
        responses=responses(*_READ, errors.TypeNotFound),
        response_headers=[_ETAG],
    )
    async def get_type(
        self,
        doctor_id: DoctorId,
        id: FromPath[UUID],
        types: NamedDependency[AppointmentTypeReads],
        request: Request[Any, Any, Any],
    ) -> Response[AppointmentType]:
        """One that is not active exists only for the doctor and admins."""
        return _with_etag(await types.get(caller_of(request), doctor_id, id))

    @post(
        summary="Add an appointment type",
        operation_id="addAppointmentType",
        before_request=_STAFF,
        responses=responses(*_WRITE, errors.TooManyTypes, errors.RequestInProgress, errors.IdempotencyKeyReused),
        response_headers=[_LOCATION, _ETAG, REPLAYED],
        opt=_RECORD,
    )
    async def add(
        self,
        doctor_id: DoctorId,
        data: JSONBody[AppointmentTypeCreate],
        appointment_types: NamedDependency[AppointmentTypeService],
        request: AuthenticatedRequest,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[AppointmentType]:
        """For that doctor and admins; a doctor has at most 50. With active types, patients book one of these.

        Between two appointments of the doctor lie at least the buffer after the first and that before the second.
        `bookableBy` says who may book it besides the doctor and admins: EVERYONE, or KNOWN_PATIENTS, who have had an
        appointment with the doctor that is COMPLETED, or that is CONFIRMED and over, or nobody (STAFF).
        """
        route = f"POST /api/availability/{doctor_id}/types"
        key = RequestKey.of(idempotency_key, user_id=request.user.id, route=route, body=data)
        answer = await appointment_types.create(request.user, doctor_id, data, key)
        return JsonResponse[Any](answer.body, status_code=answer.status, headers=answer.headers)

    @patch(
        "/{id:uuid}",
        summary="Change an appointment type",
        operation_id="changeAppointmentType",
        before_request=_STAFF,
        responses=responses(*_WRITE, errors.TypeNotFound, PreconditionFailed),
        response_headers=[_ETAG],
        opt=_RECORD,
    )
    async def change(
        self,
        doctor_id: DoctorId,
        id: FromPath[UUID],
        data: JSONBody[AppointmentTypeUpdate],
        appointment_types: NamedDependency[AppointmentTypeService],
        request: AuthenticatedRequest,
        if_match: Annotated[str | None, _if_match("Change")] = None,
    ) -> Response[AppointmentType]:
        """Absent fields stay as they are, and null clears one. Appointments that are booked keep what they have."""
        changed = await appointment_types.change(request.user, doctor_id, id, data, IfMatch(if_match))
        return _with_etag(changed)

    @delete(
        "/{id:uuid}",
        summary="Delete or deactivate an appointment type",
        operation_id="deleteAppointmentType",
        status_code=200,
        before_request=_STAFF,
        responses={**responses(*_WRITE, errors.TypeNotFound, PreconditionFailed), 204: _DELETED},
        response_headers=[_ETAG],
        opt=_RECORD,
    )
    async def remove(
        self,
        doctor_id: DoctorId,
        id: FromPath[UUID],
        appointment_types: NamedDependency[AppointmentTypeService],
        request: AuthenticatedRequest,
        if_match: Annotated[str | None, _if_match("Delete")] = None,
    ) -> Response[AppointmentType]:
        """One that was never booked is deleted (204). Any other is only no longer active, and is answered (200)."""
        left = await appointment_types.remove(request.user, doctor_id, id, IfMatch(if_match))
        return Response[Any](None, status_code=204) if left is None else _with_etag(left)


def _with_etag(one: AppointmentType) -> Response[AppointmentType]:
    return JsonResponse(one, headers={"ETag": one.etag})
