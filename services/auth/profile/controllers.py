from typing import Annotated, Literal

from litestar import Controller, delete, get
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from services.auth.accounts.repository import AccountRepository
from services.auth.accounts.schemas import OwnAccount
from services.auth.errors import FutureAppointments, WrongOtp, WrongPassword
from services.auth.profile.schemas import Erasure, OwnData
from services.auth.profile.service import ProfileService
from services.kit.errors import NotFound, TooManyRequests
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, responses


class ProfileController(Controller):
    path = "/api/auth"
    tags = ["Own account"]

    @get(
        summary="Get one's own account",
        operation_id="getOwnAccount",
        before_request=requires(),
        responses=responses(*SIGNED_IN, NotFound),
    )
    async def get_own(
        self, request: AuthenticatedRequest, account_reads: NamedDependency[AccountRepository]
    ) -> OwnAccount:
        """The account that the access token belongs to."""
        return await account_reads.get_own(request.user)

    @get(
        "/export",
        summary="Export one's own data",
        operation_id="exportOwnData",
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def export(self, request: AuthenticatedRequest, profile: NamedDependency[ProfileService]) -> OwnData:
        """All that this service knows of oneself: the account, the logins without their secrets, and the latest 1,000
        entries of the audit trail by or about oneself, without the network addresses of others. One's visits are at
        `GET /api/appointments`, what one was told is at `GET /api/notifications/{userId}`.
        """
        return await profile.export(request.user)

    @delete(
        summary="Erase one's own account",
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
            Literal["cancel"] | None, QueryParameter(name="onConflict", description="Cancel the visits to come")
        ] = None,
    ) -> None:
        """For good: name, addresses, phone number and password go, in every service, and with a patient the notes and
        reasons that were typed about their visits. That there were visits, and the audit trail, stay, by ids alone. The
        e-mail address is free for a new account. With visits to come and without `onConflict=cancel` nothing happens:
        the 409 lists them as `appointments`.
        """
        otp = data.otp if isinstance(data.otp, str) else None
        await profile.erase(request.user, data.password, otp, cancel=on_conflict == "cancel")
