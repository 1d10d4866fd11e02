from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from services.auth.credentials.schemas import (
    Accepted,
    EmailVerification,
    PasswordChange,
    PasswordReset,
    PasswordResetConfirmation,
    PasswordResetDone,
)
from services.auth.credentials.service import CredentialService
from services.auth.errors import EmailTaken, EmailVerified, InvalidLink, WrongPassword
from services.contracts.mails import Mail
from services.kit.errors import TooManyRequests, Unavailable
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires, requires_internal_token
from services.kit.http.responses import CALLER_CHECKED, responses


class CredentialController(Controller):
    path = "/api/auth"
    tags = ["Credentials"]

    @post(
        "/password",
        summary="Change the password",
        operation_id="changePassword",
        status_code=204,
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, WrongPassword, TooManyRequests),
    )
    async def change_password(
        self,
        data: JSONBody[PasswordChange],
        request: AuthenticatedRequest,
        credentials: NamedDependency[CredentialService],
    ) -> None:
        """Change the caller's password, by the current one, and end their other sessions. A password has at least 8
        characters of any kind; one that is widely used is refused.
        """
        await credentials.change_password(request.user, data)

    @post(
        "/password-reset",
        summary="Request a password reset",
        operation_id="requestPasswordReset",
        status_code=202,
        security=PUBLIC,
        responses=responses(TooManyRequests, Unavailable),
    )
    async def request_reset(
        self, data: JSONBody[PasswordReset], credentials: NamedDependency[CredentialService]
    ) -> Accepted:
        """Mail a link to the address if it has an account. The answer, and the time it takes, are the same if not."""
        await credentials.request_reset(data.email)
        return Accepted(message="If this address has an account, a mail to it is on its way")

    @post(
        "/password-reset/confirm",
        summary="Choose a new password",
        operation_id="confirmPasswordReset",
        status_code=200,
        security=PUBLIC,
        responses=responses(InvalidLink, EmailTaken, Unavailable),
    )
    async def reset_password(
        self, data: JSONBody[PasswordResetConfirmation], credentials: NamedDependency[CredentialService]
    ) -> PasswordResetDone:
        """Take the token of the mailed link, which can be used once, within one hour. Ends all sessions of the account,
        and the one-time codes of one whose address was never verified.

        The token of a notice about a change (of the password, the address or one-time codes) can be used within seven
        days. It also gives back the address that the notice was sent to and ends one-time codes that were set up since.

        Send the `deviceToken` of the answer with the login that follows: wrong guesses of others then do not delay it.
        """
        return await credentials.reset_password(data)

    @post(
        "/verify-email",
        summary="Verify an e-mail address",
        operation_id="verifyEmail",
        status_code=204,
        security=PUBLIC,
        responses=responses(InvalidLink, EmailTaken, Unavailable),
    )
    async def verify_email(
        self, data: JSONBody[EmailVerification], credentials: NamedDependency[CredentialService]
    ) -> None:
        """Take the token of the link that was mailed, which can be used once, within three days. The address to which
        it was mailed then is the account's.
        """
        await credentials.verify_email(data.token)

    @post(
        "/verify-email/request",
        summary="Request the verification mail again",
        operation_id="requestEmailVerification",
        status_code=202,
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, EmailVerified, TooManyRequests),
    )
    async def request_verification(
        self, request: AuthenticatedRequest, credentials: NamedDependency[CredentialService]
    ) -> Accepted:
        """Mail a new link to the caller's `pendingEmail`, or else to the address that is not verified yet."""
        await credentials.request_verification(request.user)
        return Accepted(message="A mail is on its way")


def internal_mail_handler(credentials: CredentialService, *tokens: str) -> HTTPRouteHandler:
    @get("/internal/mails/{id:uuid}", before_request=requires_internal_token(*tokens))
    async def get_mail(id: FromPath[UUID]) -> Mail:
        return await credentials.get_mail(id)

    return get_mail
