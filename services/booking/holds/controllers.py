from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from services.booking import errors
from services.booking.holds.reads import HoldReads
from services.booking.holds.schemas import Hold, HoldCreate
from services.booking.holds.service import HoldService
from services.booking.idempotency import RequestKey
from services.contracts.enums import Role
from services.kit.errors import NotFound, TooManyRequests
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.idempotency import REPLAYED, IdempotencyKey
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, JsonResponse, responses
from services.kit.schema import Instant

_ANY_ROLE = requires(Role.PATIENT, Role.DOCTOR, Role.ADMIN)
_ROUTE = "POST /api/holds"
_LOCATION = ResponseHeader(name="Location", description="The path of the hold", documentation_only=True)
_REFUSED = (
    errors.DoctorNotFound,
    errors.PatientNotFound,
    errors.SlotTaken,
    errors.PatientBusy,
    errors.DoctorUnavailable,
    errors.OutsideAvailability,
    errors.TooSoon,
    errors.TooFar,
    errors.TooManyOpen,
    errors.TypeNotFound,
    errors.TypeUnavailable,
)


class HoldController(Controller):
    path = "/api/holds"
    tags = ["Holds"]
    opt = record("hold")

    @post(
        summary="Hold a time",
        operation_id="holdTime",
        before_request=_ANY_ROLE,
        responses=responses(
            *CALLER_CHECKED,
            *_REFUSED,
            errors.RequestInProgress,
            errors.IdempotencyKeyReused,
            TooManyRequests,
        ),
        response_headers=[_LOCATION, REPLAYED],
    )
    async def hold(
        self,
        data: JSONBody[HoldCreate],
        holds: NamedDependency[HoldService],
        request: AuthenticatedRequest,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[Hold]:
        """Keep a time for a patient who is about to book it, for `holdMinutes`, 5 unless it says otherwise.

        Patients hold for themselves. A doctor, in their own calendar, and an admin name the patient. The rules are
        those of a booking, also for `typeId` and `durationMinutes`; a patient has at most three holds at a time
        (`too_many_open`). Until `expiresAt`, which is never after the start, nobody else can book or hold the time, and
        `GET /api/slots` does not list it. Then it is free again, without anything being done. A hold is no appointment:
        nobody is notified of it. Book it by its `holdId` with `POST /api/appointments`.
        """
        key = RequestKey.of(idempotency_key, user_id=request.user.id, route=_ROUTE, body=data)
        answer = await holds.hold(request.user, data, key)
        return JsonResponse[Any](answer.body, status_code=answer.status, headers=answer.headers)

    @get(summary="List holds", operation_id="listHolds", before_request=_ANY_ROLE, responses=responses(*WITH_ROLE))
    async def list_holds(
        self,
        hold_reads: NamedDependency[HoldReads],
        request: AuthenticatedRequest,
        doctor_id: Annotated[UUID | None, QueryParameter(name="doctorId")] = None,
        patient_id: Annotated[UUID | None, QueryParameter(name="patientId")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Hold]:
        """The caller's own holds that have not expired, in a doctor's case those in the calendar, or all of them for an
        admin, sorted by `dateTime`, then by id.
        """
        found = await hold_reads.list(
            request.user,
            limit=limit + 1,
            after=decode_cursor(cursor, tuple[Instant, UUID]),
            doctor_id=doctor_id,
            patient_id=patient_id,
        )
        return Page.of(found, limit, lambda hold: (hold.starts_at, hold.id))

    @delete(
        "/{id:uuid}",
        summary="Release a hold",
        operation_id="releaseHold",
        before_request=_ANY_ROLE,
        responses=responses(*CALLER_CHECKED, NotFound, TooManyRequests),
    )
    async def release(
        self, id: FromPath[UUID], holds: NamedDependency[HoldService], request: AuthenticatedRequest
    ) -> None:
        """Free the time at once. For its patient, its doctor and admins; a hold that has ended is a 404."""
        await holds.release(request.user, id)
