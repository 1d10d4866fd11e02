from typing import Any
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from services.auth.clients import Client
from services.auth.credentials.schemas import (
    Accepted,
    EmailVerification,
    PasswordChange,
    PasswordReset,
    PasswordResetConfirmation,
    PasswordResetDone,
)
from services.auth.credentials.service import CredentialService
from services.auth.errors import EmailVerified, InvalidLink, WrongPassword
from services.contracts.mails import Mail
from services.kit.errors import TooManyRequests, Unavailable
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires, requires_internal_token
from services.kit.http.responses import CALLER_CHECKED, responses


class CredentialController(Controller):
    path = "/api/auth"
    tags = ["Credentials"]

    @post(
        "/password",
        summary="Change one's own password",
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
        """Needs the current password, and ends one's other sessions. At least 8 characters of any kind; passwords that
        are on everybody's list are refused.
        """
        await credentials.change_password(request.user, data)

    @post(
        "/password-reset",
        summary="Ask for a new password",
        operation_id="requestPasswordReset",
        status_code=202,
        security=PUBLIC,
        responses=responses(TooManyRequests, Unavailable),
    )
    async def request_reset(
        self,
        data: JSONBody[PasswordReset],
        request: Request[Any, Any, Any],
        credentials: NamedDependency[CredentialService],
    ) -> Accepted:
        """Mails a link to the address if it has an account. The answer, and the time that it takes, is the same if it
        has none.
        """
        await credentials.request_reset(data.email, Client.of(request))
        return Accepted(message="If this address has an account, a mail to it is on its way")

    @post(
        "/password-reset/confirm",
        summary="Choose a new password",
        operation_id="confirmPasswordReset",
        status_code=200,
        security=PUBLIC,
        responses=responses(InvalidLink, Unavailable),
    )
    async def reset_password(
        self,
        data: JSONBody[PasswordResetConfirmation],
        request: Request[Any, Any, Any],
        credentials: NamedDependency[CredentialService],
    ) -> PasswordResetDone:
        """Take the token of the mailed link, which can be used once, within one hour. Ends all sessions of the account,
        and the one-time codes of one whose address was never verified.

        Send the `deviceToken` of the answer with the login that follows: wrong guesses of others then do not delay it.
        """
        return await credentials.reset_password(data, Client.of(request))

    @post(
        "/verify-email",
        summary="Verify an e-mail address",
        operation_id="verifyEmail",
        status_code=204,
        security=PUBLIC,
        responses=responses(InvalidLink, Unavailable),
    )
    async def verify_email(
        self, data: JSONBody[EmailVerification], credentials: NamedDependency[CredentialService]
    ) -> None:
        """With the token of the link that was mailed at sign-up, which is good for three days and for once."""
        await credentials.verify_email(data.token)

    @post(
        "/verify-email/request",
        summary="Ask for the verifying mail again",
        operation_id="requestEmailVerification",
        status_code=202,
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, EmailVerified, TooManyRequests),
    )
    async def request_verification(
        self, request: AuthenticatedRequest, credentials: NamedDependency[CredentialService]
    ) -> Accepted:
        """Mails a new link to one's own address, unless it is verified already."""
        await credentials.request_verification(request.user)
        return Accepted(message="A mail is on its way")


def internal_mail_handler(credentials: CredentialService, *tokens: str) -> HTTPRouteHandler:
    @get("/internal/mails/{id:uuid}", before_request=requires_internal_token(*tokens))
    async def get_mail(id: FromPath[UUID]) -> Mail:
        return await credentials.get_mail(id)

    return get_mail
