from typing import Annotated, Literal

from litestar import Controller, delete, get
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from services.auth.errors import FutureAppointments, WrongOtp, WrongPassword
from services.auth.profile.schemas import Erasure, OwnData
from services.auth.profile.service import ProfileService
from services.auth.users.reads import UserReads
from services.auth.users.schemas import OwnAccount
from services.kit.errors import NotFound, TooManyRequests
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, responses


class ProfileController(Controller):
    path = "/api/auth"
    tags = ["Own account"]

    @get(
        summary="Get the caller's account",
        operation_id="getOwnAccount",
        before_request=requires(),
        responses=responses(*SIGNED_IN, NotFound),
    )
    async def get_own(self, request: AuthenticatedRequest, user_reads: NamedDependency[UserReads]) -> OwnAccount:
        """Return the account of the access token."""
        return await user_reads.get_own(request.user)

    @get(
        "/export",
        summary="Export the caller's data",
        operation_id="exportOwnData",
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def export(self, request: AuthenticatedRequest, profile: NamedDependency[ProfileService]) -> OwnData:
        """Return everything that this service stores about the caller: the account, the logins without their secrets,
        and the latest 1,000 entries of the audit trail by or about the caller, without the network addresses of others.
        `GET /api/appointments` has the appointments, `GET /api/notifications/{userId}` the notifications.
        """
        return await profile.export(request.user)

    @delete(
        summary="Erase the caller's account",
        operation_id="eraseOwnAccount",
        status_code=204,
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound, WrongPassword, WrongOtp, FutureAppointments, TooManyRequests),
    )
    async def erase(
        self,
        data: JSONBody[Erasure],
        request: AuthenticatedRequest,
        profile: NamedDependency[ProfileService],
        on_conflict: Annotated[
            Literal["cancel"] | None, QueryParameter(name="onConflict", description="Cancel upcoming appointments")
        ] = None,
    ) -> None:
        """Erase name, addresses, phone number and password for good, in every service, and for a patient also the notes
        and reasons that were typed about their appointments. The appointments and the audit trail stay, with ids alone.
        The e-mail address becomes free for a new account. If there are upcoming appointments and `onConflict` is
        absent, nothing changes and the 409 lists them as `appointments`.
        """
        otp = data.otp if isinstance(data.otp, str) else None
        await profile.erase(request.user, data.password, otp, cancel=on_conflict == "cancel")
