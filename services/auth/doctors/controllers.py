from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.auth.accounts.schemas import DoctorSignUp, DoctorUpdate
from services.auth.accounts.service import AccountService, OnConflict
from services.auth.doctors.reads import ORDERS, DoctorFilter, DoctorReads, DoctorSort
from services.auth.errors import EmailTaken, FutureAppointments, WrongPassword
from services.auth.users.reads import searched
from services.auth.users.schemas import FEE_PATTERN, Doctor
from services.contracts.enums import Role, UserStatus
from services.kit.errors import NotFound, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, authenticated, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, responses


class DoctorController(Controller):
    path = "/api/doctors"
    tags = ["Doctors"]
    opt = record("doctor")

    @post(
        "/signup",
        summary="Sign up as a doctor",
        operation_id="signUpDoctor",
        security=PUBLIC,
        responses=responses(EmailTaken, TooManyRequests, Unavailable),
    )
    async def sign_up(
        self, data: JSONBody[DoctorSignUp], accounts: NamedDependency[AccountService]
    ) -> Response[Doctor]:
        """Create an account. It is `PENDING`, neither listed nor bookable, until an admin approves it, unless the
        platform is set to admit doctors automatically.
        """
        doctor = await accounts.sign_up_doctor(data)
        return Response(doctor, headers={"Location": f"/api/doctors/{doctor.id}"})

    @get(
        summary="List doctors",
        operation_id="listDoctors",
        security=[*PUBLIC, {"bearer": []}],
        responses=responses(*CALLER_CHECKED),
    )
    async def list(
        self,
        request: Request[Any, Any, Any],
        doctor_reads: NamedDependency[DoctorReads],
        q: Annotated[
            str | None,
            QueryParameter(
                min_length=1,
                max_length=100,
                description="Part of the name or of the speciality, accents and case apart",
            ),
        ] = None,
        speciality: Annotated[
            str | None,
            QueryParameter(min_length=1, max_length=200, description="The whole speciality, accents and case apart"),
        ] = None,
        min_experience: Annotated[int | None, QueryParameter(name="minExperience", ge=0, le=80)] = None,
        max_fee: Annotated[str | None, QueryParameter(name="maxFee", pattern=FEE_PATTERN, max_length=11)] = None,
        status: Annotated[
            UserStatus | None, QueryParameter(description="For admins: a status other than `ACTIVE`")
        ] = None,
        sort: FromQuery[DoctorSort] = "name",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Doctor]:
        """List approved doctors, without e-mail addresses and phone numbers. Doctors without experience, or without a
        fee, come last in that order. A cursor continues the same `sort` and filters only. An admin may ask for another
        `status`, such as the `PENDING` doctors who wait for approval.
        """
        caller = None if status is None else authenticated(request, Role.ADMIN)
        wanted = DoctorFilter(
            q=searched(q),
            speciality=searched(speciality),
            min_experience=min_experience,
            max_fee=None if max_fee is None else Decimal(max_fee),
            status=status or UserStatus.ACTIVE,
        )
        found = await doctor_reads.list(caller, wanted, sort, limit=limit + 1, after=_after(sort, cursor))
        page = Page.of(found, limit, lambda one: (sort, one[0], one[1].id))
        return Page(items=[doctor for _, doctor in page.items], next_cursor=page.next_cursor)

    @get(
        "/{id:uuid}",
        summary="Get a doctor",
        operation_id="getDoctor",
        before_request=requires(),
        responses=responses(*SIGNED_IN, NotFound),
    )
    async def get_one(
        self, id: FromPath[UUID], request: AuthenticatedRequest, doctor_reads: NamedDependency[DoctorReads]
    ) -> Doctor:
        """Get the profile; that doctor and admins also get the e-mail address and the phone number, and only they see a
        doctor who is suspended or not approved.
        """
        return await doctor_reads.get(request.user, id)

    @patch(
        "/{id:uuid}",
        summary="Change a doctor's profile",
        operation_id="updateDoctor",
        before_request=requires(Role.DOCTOR, Role.ADMIN),
        responses=responses(*CALLER_CHECKED, WrongPassword, NotFound, EmailTaken, TooManyRequests),
    )
    async def update(
        self,
        id: FromPath[UUID],
        data: JSONBody[DoctorUpdate],
        request: AuthenticatedRequest,
        accounts: NamedDependency[AccountService],
    ) -> Doctor:
        """Apply a merge patch by that doctor or an admin: an absent field stays, null clears `phone`, `speciality`,
        `experience` or `consultationFee`. Only the doctor changes `email`, with `currentPassword`: this ends the other
        sessions, and the new address stays `pendingEmail` until the link in the mail to it is followed.
        """
        return await accounts.update_doctor(request.user, id, data)

    @post(
        "/{id:uuid}/approve",
        summary="Approve a doctor",
        operation_id="approveDoctor",
        status_code=200,
        before_request=requires(Role.ADMIN),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def approve(
        self, id: FromPath[UUID], request: AuthenticatedRequest, accounts: NamedDependency[AccountService]
    ) -> Doctor:
        """List the doctor and let patients book, also again after a suspension. Repeating it changes nothing."""
        return await accounts.approve(request.user, id)

    @post(
        "/{id:uuid}/suspend",
        summary="Suspend a doctor",
        operation_id="suspendDoctor",
        status_code=200,
        before_request=requires(Role.ADMIN),
        responses=responses(*CALLER_CHECKED, NotFound, FutureAppointments),
    )
    async def suspend(
        self,
        id: FromPath[UUID],
        request: AuthenticatedRequest,
        accounts: NamedDependency[AccountService],
        on_conflict: Annotated[
            OnConflict | None, QueryParameter(name="onConflict", description="What happens to upcoming appointments")
        ] = None,
    ) -> Doctor:
        """Stop listing and booking the doctor, who cannot sign in any more. If the doctor has upcoming appointments
        and `onConflict` is absent, nothing changes and the 409 lists them as `appointments`. Repeating it changes
        nothing.
        """
        return await accounts.suspend(request.user, id, on_conflict)


def _after(sort: DoctorSort, cursor: str | None) -> tuple[Any, UUID] | None:
    """Return the key and the id of the last doctor seen; raise `BadRequest` for the cursor of another sort."""
    order = ORDERS[sort]
    position = decode_cursor(cursor, order.cursor)
    return None if position is None else (order.decode(position[1]), position[2])
