from services.kit.auth import AccountSuspended
from services.kit.errors import BadRequest, Conflict, Forbidden, ProblemError, Unauthorized


class EmailTaken(Conflict):
    code, title = "email_taken", "This e-mail address already has an account"


class InvalidCredentials(Unauthorized):
    """One answer for an unknown e-mail address, a wrong password and an account of another kind."""

    code, title = "invalid_credentials", "The e-mail address or the password is wrong"


class InvalidRefreshToken(Unauthorized):
    code, title = "invalid_refresh_token", "The refresh token is not valid, was used, or has expired: sign in again"


class LoginSuspended(Unauthorized):
    """The answer to a login; a suspended caller who is signed in gets `AccountSuspended`, a 403."""

    code, title = AccountSuspended.code, AccountSuspended.title


class WrongPassword(Forbidden):
    """A 403, because a 401 would make a client sign in again."""

    code, title = "wrong_password", "The current password is wrong"


class MfaRequired(Unauthorized):
    code, title = "mfa_required", "The password is right; send it again with `otp`, a one-time code"


class MfaSetupRequired(Unauthorized):
    code = "mfa_setup_required"
    title = "Admins must sign in with one-time codes; an operator sets them up with `set-up-mfa`"


class InvalidOtp(Unauthorized):
    code, title = "invalid_otp", "The one-time code is wrong or was used before"


class WrongOtp(Forbidden):
    """The answer to a caller who is signed in."""

    code, title = InvalidOtp.code, InvalidOtp.title


class FactorEnabled(Conflict):
    code, title = "mfa_enabled", "One-time codes are already on"


class FactorMissing(Conflict):
    code, title = "mfa_not_enrolled", "One-time codes have not been set up"


class InvalidLink(BadRequest):
    code, title = "invalid_link", "The link is incomplete, was used before, or has expired; request a new one"


class EmailVerified(Conflict):
    code, title = "email_verified", "This e-mail address is already verified"


class FutureAppointments(Conflict):
    code, title = (
        "future_appointments",
        "There are upcoming appointments; choose with `onConflict` what happens to them",
    )


CONSTRAINTS: dict[str, type[ProblemError]] = {"users_email_canonical": EmailTaken, "users_email_unique": EmailTaken}
