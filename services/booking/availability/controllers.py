from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, put
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter

from services.booking.availability.conflicts import OnConflict
from services.booking.availability.reads import AvailabilityReads
from services.booking.availability.schemas import Availability, AvailabilityChange, AvailabilityUpdate
from services.booking.availability.service import AvailabilityService, refuse_others
from services.booking.errors import AppointmentsAffected, DoctorNotFound, NoAvailability
from services.contracts.enums import Role
from services.kit.errors import NotFound, PreconditionFailed, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, caller_of, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.preconditions import IfMatch
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, JsonResponse, responses

DoctorId = Annotated[UUID, PathParameter(name="doctorId")]
_STAFF = requires(Role.DOCTOR, Role.ADMIN)
_RECORD = record("availability")
_ETAG = ResponseHeader(name="ETag", description="The version of the availability", documentation_only=True)


class AvailabilityController(Controller):
    path = "/api/availability"
    tags = ["Availability"]

    @get(
        "/{doctorId:uuid}",
        summary="Get a doctor's availability",
        operation_id="getAvailability",
        security=PUBLIC,
        responses=responses(DoctorNotFound, NoAvailability, Unavailable),
        response_headers=[_ETAG],
    )
    async def get_availability(
        self,
        doctor_id: DoctorId,
        schedules: NamedDependency[AvailabilityReads],
        request: Request[Any, Any, Any],
    ) -> Response[Availability]:
        """A doctor who has not set any hours (404 `no_availability`) can be booked at any future time.

        A doctor who is not approved yet is seen by that doctor and by admins.
        """
        return _with_etag(await schedules.get(caller_of(request), doctor_id))

    @put(
        "/{doctorId:uuid}",
        summary="Set a doctor's availability",
        operation_id="setAvailability",
        before_request=_STAFF,
        responses=responses(*CALLER_CHECKED, DoctorNotFound, PreconditionFailed, AppointmentsAffected, TooManyRequests),
        response_headers=[_ETAG],
        opt=_RECORD,
    )
    async def set_availability(
        self,
        doctor_id: DoctorId,
        data: JSONBody[AvailabilityUpdate],
        availability: NamedDependency[AvailabilityService],
        request: AuthenticatedRequest,
        if_match: Annotated[
            str | None,
            HeaderParameter(name="If-Match", description='Set it only if its ETag is this one, such as `"3"`'),
        ] = None,
        on_conflict: Annotated[
            OnConflict | None,
            QueryParameter(name="onConflict", description="What happens to appointments that the hours leave outside"),
        ] = None,
    ) -> Response[Availability]:
        """For that doctor and admins. It replaces the whole availability; a field that is left out has its default.

        Hours are local times of `timeZone`, and stay these times when the clocks change. `end` may be `24:00`; an `end`
        that is not after `start` is on the next day. Each period of `weekly` is valid from its first to its last day,
        and no two overlap; on other days the doctor is closed. With `cycleWeeks` the hours alternate: week 0 is the one
        of `validFrom`. The starts of slots are `slotMinutes` apart, beginning with the start of the hours. On the days
        that are holidays in `publicHolidays` the doctor is closed, except in extra hours.

        Upcoming appointments within the old hours and outside the new ones are `appointments_affected`, which lists the
        first 100 as `appointments` and says as `count` how many they are, and nothing changes. `onConflict=keep` leaves
        them as they are, and `cancel` cancels them.
        """
        condition = IfMatch(if_match)
        return _with_etag(await availability.replace(request.user, doctor_id, data, condition, on_conflict))

    @get(
        "/{doctorId:uuid}/history",
        summary="Get the history of a doctor's availability",
        operation_id="getAvailabilityHistory",
        before_request=_STAFF,
        responses=responses(*WITH_ROLE, NotFound),
        opt=_RECORD,
    )
    async def get_history(
        self,
        doctor_id: DoctorId,
        schedules: NamedDependency[AvailabilityReads],
        request: AuthenticatedRequest,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[AvailabilityChange]:
        """One entry for each version, oldest first. For that doctor and admins."""
        refuse_others(request.user, doctor_id)
        after_version = decode_cursor(cursor, int) or 0
        found = await schedules.history(doctor_id, limit=limit + 1, after_version=after_version)
        return Page.of(found, limit, lambda change: change.version)


def _with_etag(availability: Availability) -> Response[Availability]:
    return JsonResponse(availability, headers={"ETag": availability.etag})
