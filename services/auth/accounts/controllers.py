from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.auth.accounts.addresses import canonical
from services.auth.accounts.doctors import ORDERS, DoctorFilter, DoctorSort, containing
from services.auth.accounts.repository import AccountRepository
from services.auth.accounts.schemas import (
    FEE_PATTERN,
    Doctor,
    DoctorSignUp,
    DoctorUpdate,
    Patient,
    PatientSignUp,
    PatientUpdate,
)
from services.auth.accounts.service import AccountService, OnConflict
from services.auth.clients import Client
from services.auth.errors import EmailTaken, FutureAppointments, WrongPassword
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserState
from services.kit.errors import NotFound, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, authenticated, requires, requires_internal_token
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, WITH_ROLE, responses

_Search = Annotated[str | None, QueryParameter(min_length=1, max_length=100)]


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
        self,
        data: JSONBody[DoctorSignUp],
        request: Request[Any, Any, Any],
        accounts: NamedDependency[AccountService],
    ) -> Response[Doctor]:
        """The account is `PENDING`, neither listed nor bookable, until an admin approves it, unless the platform is set
        to admit doctors by itself.
        """
        doctor = await accounts.sign_up_doctor(data, Client.of(request))
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
        account_reads: NamedDependency[AccountRepository],
        q: Annotated[_Search, QueryParameter(description="A part of the name or of the speciality")] = None,
        speciality: Annotated[
            str | None, QueryParameter(min_length=1, max_length=200, description="The whole one")
        ] = None,
        min_experience: Annotated[int | None, QueryParameter(name="minExperience", ge=0, le=80)] = None,
        max_fee: Annotated[str | None, QueryParameter(name="maxFee", pattern=FEE_PATTERN, max_length=11)] = None,
        status: Annotated[
            UserStatus | None, QueryParameter(description="For admins: others than `ACTIVE` ones")
        ] = None,
        sort: FromQuery[DoctorSort] = "name",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Doctor]:
        """Approved doctors, never with an e-mail address or a phone number. Who has not told the experience or the fee
        comes last. A cursor continues the same `sort` and filters only. An admin may ask for those of another `status`,
        such as the `PENDING` ones who wait for approval.
        """
        asking = None if status is None else authenticated(request, Role.ADMIN)
        wanted = DoctorFilter(
            q=q,
            speciality=speciality,
            min_experience=min_experience,
            max_fee=None if max_fee is None else Decimal(max_fee),
            status=status or UserStatus.ACTIVE,
        )
        found = await account_reads.list_doctors(asking, wanted, sort, limit=limit + 1, after=_after(sort, cursor))
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
        self,
        id: FromPath[UUID],
        request: AuthenticatedRequest,
        account_reads: NamedDependency[AccountRepository],
    ) -> Doctor:
        """The profile; with e-mail address and phone number for the doctor and for admins. A doctor who is not
        approved, or suspended, is there for these only.
        """
        return await account_reads.get_doctor(request.user, id)

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
        """A merge patch by that doctor or an admin: an absent field stays, null clears `phone`, `speciality`,
        `experience` or `consultationFee`. The doctor alone changes `email`, with `currentPassword`; this ends the other
        sessions, and the new address gets a mail that verifies it.
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
        """From now on, or again after a suspension, the doctor is listed and bookable. Repeating it changes nothing."""
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
            OnConflict | None, QueryParameter(name="onConflict", description="What becomes of the visits to come")
        ] = None,
    ) -> Doctor:
        """The doctor is no longer listed or bookable and cannot sign in. With visits to come and without `onConflict`
        nothing happens: the 409 lists them as `appointments`. Repeating it changes nothing.
        """
        return await accounts.suspend(request.user, id, on_conflict)


class PatientController(Controller):
    path = "/api/patients"
    tags = ["Patients"]
    opt = record("patient")

    @post(
        "/signup",
        summary="Sign up as a patient",
        operation_id="signUpPatient",
        security=PUBLIC,
        responses=responses(EmailTaken, TooManyRequests, Unavailable),
    )
    async def sign_up(
        self,
        data: JSONBody[PatientSignUp],
        request: Request[Any, Any, Any],
        accounts: NamedDependency[AccountService],
    ) -> Response[Patient]:
        """The e-mail address identifies the account, whatever its upper and lower case."""
        patient = await accounts.sign_up_patient(data, Client.of(request))
        return Response(patient, headers={"Location": f"/api/patients/{patient.id}"})

    @get(
        summary="List patients",
        operation_id="listPatients",
        before_request=requires(Role.ADMIN),
        responses=responses(*CALLER_CHECKED),
    )
    async def list(
        self,
        request: AuthenticatedRequest,
        account_reads: NamedDependency[AccountRepository],
        q: Annotated[_Search, QueryParameter(description="A part of the name")] = None,
        email: Annotated[str | None, QueryParameter(min_length=1, max_length=254, description="The whole one")] = None,
        status: FromQuery[UserStatus | None] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Patient]:
        """For admins, the newest first."""
        filters = {"q": q and containing(q), "email": email and canonical(email), "status": status}
        given = {name: value for name, value in filters.items() if value is not None}
        before = decode_cursor(cursor, UUID)
        found = await account_reads.list_patients(request.user, given, limit=limit + 1, before=before)
        return Page.of(found, limit, lambda patient: patient.id)

    @get(
        "/{id:uuid}",
        summary="Get a patient",
        operation_id="getPatient",
        before_request=requires(Role.PATIENT, Role.ADMIN),
        responses=responses(*WITH_ROLE, NotFound),
    )
    async def get_one(
        self,
        id: FromPath[UUID],
        request: AuthenticatedRequest,
        account_reads: NamedDependency[AccountRepository],
    ) -> Patient:
        """For that patient and for admins; for everybody else there is no such patient."""
        return await account_reads.get_patient(request.user, id)

    @patch(
        "/{id:uuid}",
        summary="Change a patient's profile",
        operation_id="updatePatient",
        before_request=requires(Role.PATIENT, Role.ADMIN),
        responses=responses(*CALLER_CHECKED, WrongPassword, NotFound, EmailTaken, TooManyRequests),
    )
    async def update(
        self,
        id: FromPath[UUID],
        data: JSONBody[PatientUpdate],
        request: AuthenticatedRequest,
        accounts: NamedDependency[AccountService],
    ) -> Patient:
        """A merge patch by that patient or an admin: an absent field stays, null clears `phone`. The patient alone
        changes `email`, with `currentPassword`; this ends the other sessions, and the new address gets a mail that
        verifies it.
        """
        return await accounts.update_patient(request.user, id, data)


def _after(sort: DoctorSort, cursor: str | None) -> tuple[Any, UUID] | None:
    """Return the key and the id of the last doctor seen; raise `BadRequest` for the cursor of another sort."""
    order = ORDERS[sort]
    position = decode_cursor(cursor, order.cursor)
    return None if position is None else (order.decode(position[1]), position[2])


def internal_user_handler(account_reads: AccountRepository, *tokens: str) -> HTTPRouteHandler:
    @get("/internal/users/{id:uuid}", before_request=requires_internal_token(*tokens))
    async def get_user(id: FromPath[UUID]) -> UserState:
        return await account_reads.get_state(id)

    return get_user
