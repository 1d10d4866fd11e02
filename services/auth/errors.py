from services.kit.auth import AccountSuspended
from services.kit.errors import BadRequest, Conflict, Forbidden, ProblemError, Unauthorized


class EmailTaken(Conflict):
    code, title = "email_taken", "This e-mail address already has an account"


class InvalidCredentials(Unauthorized):
    """One answer for an unknown e-mail address, a wrong password and an account of another kind."""

    code, title = "invalid_credentials", "The e-mail address or the password is wrong"


class InvalidRefreshToken(Unauthorized):
    code, title = "invalid_refresh_token", "Sign in again: the refresh token is not valid, spent, or expired"


class LoginSuspended(Unauthorized):
    """At a login; a suspended account that is signed in gets `AccountSuspended`, a 403."""

    code, title = AccountSuspended.code, AccountSuspended.title


class WrongPassword(Forbidden):
    """403, because a 401 would tell a client to sign in anew."""

    code, title = "wrong_password", "The current password is wrong"


class MfaRequired(Unauthorized):
    code, title = "mfa_required", "The password is right: send it again with `otp`, a one-time code"


class MfaSetupRequired(Unauthorized):
    code = "mfa_setup_required"
    title = "Admins sign in with one-time codes here, which an operator sets up: `set-up-mfa`"


class InvalidOtp(Unauthorized):
    code, title = "invalid_otp", "The one-time code is wrong, or was used before"


class WrongOtp(Forbidden):
    """Of somebody who is signed in."""

    code, title = InvalidOtp.code, InvalidOtp.title


class FactorEnabled(Conflict):
    code, title = "mfa_enabled", "One-time codes are on already"


class FactorMissing(Conflict):
    code, title = "mfa_not_enrolled", "One-time codes have not been set up"


class InvalidLink(BadRequest):
    code, title = "invalid_link", "This link is not whole, was used before, or has expired: ask for a new one"


class EmailVerified(Conflict):
    code, title = "email_verified", "This e-mail address is verified already"


class FutureAppointments(Conflict):
    code, title = "future_appointments", "There are visits to come: say by `onConflict` what becomes of them"


CONSTRAINTS: dict[str, type[ProblemError]] = {"users_email_unique": EmailTaken}
