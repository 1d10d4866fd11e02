from services.kit.auth import AccountSuspended
from services.kit.errors import BadRequest, Conflict, Forbidden, ProblemError, Unauthorized


class EmailTaken(Conflict):
    code, title = "email_taken", "This e-mail address already has an account"
    when = "Another account has this e-mail address, perhaps in another spelling."
    remedy = "Let the user sign in, reset the password, or choose another address."


class InvalidCredentials(Unauthorized):
    """One answer for an unknown e-mail address, a wrong password and an account of another kind."""

    code, title = "invalid_credentials", "The e-mail address or the password is wrong"
    when = "No account of this kind has this e-mail address and this password."
    remedy = "Let the user type both again, or reset the password."


class InvalidRefreshToken(Unauthorized):
    code, title = "invalid_refresh_token", "The refresh token is not valid, was used, or has expired: sign in again"
    when = "The refresh token is malformed, expired or spent, or its session has ended."
    remedy = "Sign in again. Store the refresh token of each answer: every one works once."


class LoginSuspended(Unauthorized):
    """The answer to a login; a suspended caller who is signed in gets `AccountSuspended`, a 403."""

    code, title, when, remedy = (
        AccountSuspended.code,
        AccountSuspended.title,
        AccountSuspended.when,
        AccountSuspended.remedy,
    )


class WrongPassword(Forbidden):
    """A 403, because a 401 would make a client sign in again."""

    code, title = "wrong_password", "The current password is wrong"
    when = "`currentPassword` is not the account's password."
    remedy = "Let the user type the current password again."


class MfaRequired(Unauthorized):
    code, title = "mfa_required", "The password is right; send it again with `otp`, a one-time code"
    when = "The account uses one-time codes, and the request has none."
    remedy = "Ask for a code, and send the same request with `otp`."


class MfaSetupRequired(Unauthorized):
    code = "mfa_setup_required"
    title = "Admins must sign in with one-time codes; an operator sets them up with `set-up-mfa`"
    when = "The admin's account has no one-time codes yet, and this platform requires them."
    remedy = "Ask an operator to run `set-up-mfa` for the account."


class InvalidOtp(Unauthorized):
    code, title = "invalid_otp", "The one-time code is wrong or was used before"
    when = "The code is wrong, too old, or was used before."
    remedy = "Ask for the next code, and send it."


class WrongOtp(Forbidden):
    """The answer to a caller who is signed in."""

    code, title, when, remedy = InvalidOtp.code, InvalidOtp.title, InvalidOtp.when, InvalidOtp.remedy


class FactorEnabled(Conflict):
    code, title = "mfa_enabled", "One-time codes are already on"
    when = "The account already uses one-time codes."
    remedy = "Turn them off before you set up others."


class FactorMissing(Conflict):
    code, title = "mfa_not_enrolled", "One-time codes have not been set up"
    when = "The account has no one-time codes, or their set-up was not begun."
    remedy = "Begin the set-up first."


class InvalidLink(BadRequest):
    code, title = "invalid_link", "The link is incomplete, was used before, or has expired; request a new one"
    when = "The link's token is incomplete, used, expired, or replaced by a newer one."
    remedy = "Request a new link."


class EmailVerified(Conflict):
    code, title = "email_verified", "This e-mail address is already verified"
    when = "The address of the account needs no verification any more."
    remedy = "Continue without it."


class FutureAppointments(Conflict):
    code, title = (
        "future_appointments",
        "There are upcoming appointments; choose with `onConflict` what happens to them",
    )
    when = "The account has upcoming appointments, and the request does not say what becomes of them."
    remedy = "Ask the user, and repeat the request with `?onConflict=`."


CONSTRAINTS: dict[str, type[ProblemError]] = {"users_email_canonical": EmailTaken, "users_email_unique": EmailTaken}
