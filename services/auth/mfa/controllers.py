from typing import Annotated

from litestar import Controller, delete, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody

from services.auth.errors import FactorEnabled, FactorMissing, WrongOtp, WrongPassword
from services.auth.mfa.schemas import OTP_PATTERN, Enrolment, EnrolmentConfirmation, PendingFactor, RecoveryCodes
from services.auth.mfa.service import MfaService
from services.kit.errors import TooManyRequests
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.responses import CALLER_CHECKED, responses

_MFA = (*CALLER_CHECKED, FactorMissing, TooManyRequests)


class MfaController(Controller):
    path = "/api/auth/mfa"
    tags = ["Credentials"]

    @post(
        summary="Set up one-time codes",
        operation_id="enrolMfa",
        status_code=201,
        before_request=requires(),
        responses=responses(*_MFA, WrongPassword, FactorEnabled),
    )
    async def enrol(
        self, data: JSONBody[Enrolment], request: AuthenticatedRequest, mfa: NamedDependency[MfaService]
    ) -> PendingFactor:
        """Return a secret for an authenticator app (TOTP: SHA-1, six digits, 30 s). Nothing changes until a first code
        confirms it; until then each call makes a new secret. Needs the password.
        """
        return await mfa.enrol(request.user, data.password)

    @post(
        "/confirm",
        summary="Turn one-time codes on",
        operation_id="confirmMfa",
        status_code=200,
        before_request=requires(),
        responses=responses(*_MFA, WrongOtp, FactorEnabled),
    )
    async def confirm(
        self, data: JSONBody[EnrolmentConfirmation], request: AuthenticatedRequest, mfa: NamedDependency[MfaService]
    ) -> RecoveryCodes:
        """Confirm the secret by a first code. From now on every login needs one as `otp`; the answer has ten recovery
        codes, shown only once, for a lost device.
        """
        return RecoveryCodes(recovery_codes=await mfa.confirm(request.user, data.otp))

    @delete(
        summary="Turn one-time codes off",
        operation_id="disableMfa",
        before_request=requires(),
        responses=responses(*_MFA, WrongOtp),
    )
    async def disable(
        self,
        request: AuthenticatedRequest,
        mfa: NamedDependency[MfaService],
        otp: Annotated[
            str | None,
            HeaderParameter(
                name="X-OTP", pattern=OTP_PATTERN, description="A code or a recovery code; needed once confirmed"
            ),
        ] = None,
    ) -> None:
        """Take a code as a login does, in a header because a DELETE has no body. Refused for an admin where admins must
        have them.
        """
        await mfa.disable(request.user, otp)
