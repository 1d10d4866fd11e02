from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.auth.accounts.schemas import PatientSignUp, PatientUpdate
from services.auth.accounts.service import AccountService
from services.auth.errors import EmailTaken, WrongPassword
from services.auth.patients.reads import PatientReads
from services.auth.users.addresses import lookup_form
from services.auth.users.reads import containing, searched
from services.auth.users.schemas import Patient
from services.contracts.enums import Role, UserStatus
from services.kit.errors import NotFound, TooManyRequests, Unavailable
from services.kit.http.access_audit import record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, responses


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
        self, data: JSONBody[PatientSignUp], accounts: NamedDependency[AccountService]
    ) -> Response[Patient]:
        """Create an account; an e-mail address has at most one."""
        patient = await accounts.sign_up_patient(data)
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
        patient_reads: NamedDependency[PatientReads],
        q: Annotated[
            str | None,
            QueryParameter(min_length=1, max_length=100, description="Part of the name, accents and case apart"),
        ] = None,
        email: Annotated[
            str | None, QueryParameter(min_length=1, max_length=254, description="The whole address")
        ] = None,
        status: FromQuery[UserStatus | None] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Patient]:
        """List patients for an admin, the newest first."""
        wanted = searched(q)
        filters = {"q": wanted and containing(wanted), "email": email and lookup_form(email), "status": status}
        present = {name: value for name, value in filters.items() if value is not None}
        before = decode_cursor(cursor, UUID)
        found = await patient_reads.list(request.user, present, limit=limit + 1, before=before)
        return Page.of(found, limit, lambda patient: patient.id)

    @get(
        "/{id:uuid}",
        summary="Get a patient",
        operation_id="getPatient",
        before_request=requires(Role.PATIENT, Role.ADMIN),
        responses=responses(*WITH_ROLE, NotFound),
    )
    async def get_one(
        self, id: FromPath[UUID], request: AuthenticatedRequest, patient_reads: NamedDependency[PatientReads]
    ) -> Patient:
        """Get the profile, as that patient or an admin; other callers get 404."""
        return await patient_reads.get(request.user, id)

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
        """Apply a merge patch by that patient or an admin: an absent field stays, null clears `phone`. Only the patient
        changes `email`, with `currentPassword`: this ends the other sessions, and the new address stays `pendingEmail`
        until the link in the mail to it is followed.
        """
        return await accounts.update_patient(request.user, id, data)
