from services.notification.notifying.language import AccountText, Language, Sentence
from services.notification.notifying.schemas import NotificationType

ENGLISH = Language(
    code="en",
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    months=(
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    moment="{weekday}, {day} {month} {year}, {time} ({zone})",
    automatic="This message was sent automatically.",
    sign_in="Sign in to see the appointment.",
    usable_once="It can be used once, until {expiry}.",
    accounts={
        NotificationType.PASSWORD_RESET: AccountText(
            "Choose a new password",
            "Someone asked to reset the password of the account with this e-mail address.",
            "To choose a new password, open this link:",
            "To choose a new password, enter this code:",
            "If it was not you, do nothing: your password stays as it is.",
        ),
        NotificationType.EMAIL_VERIFICATION: AccountText(
            "Confirm your e-mail address",
            "Someone entered this e-mail address for an account.",
            "To confirm that it is yours, open this link:",
            "To confirm that it is yours, enter this code:",
            "If it was not you, do nothing: the address stays unconfirmed.",
        ),
        **{
            type: AccountText(
                "Your account was changed",
                message,
                "If this was not you, open this link and choose a new password:",
                "If this was not you, enter this code and choose a new password:",
                "This takes the change back and ends all sessions. If it was you, do nothing.",
            )
            for type, message in (
                (NotificationType.PASSWORD_CHANGED, "The password of your account was changed."),
                (NotificationType.EMAIL_CHANGED, "Another e-mail address was requested for your account."),
                (NotificationType.MFA_ENABLED, "Signing in to your account now takes a one-time code."),
                (NotificationType.MFA_DISABLED, "Signing in to your account no longer takes a one-time code."),
            )
        },
    },
    requested=Sentence(
        "Appointment requested",
        "Your appointment with {name} on {start} has been requested and is not confirmed yet.",
        "An appointment with {name} on {start} has been requested and awaits your confirmation.",
    ),
    booked=Sentence(
        "Appointment booked",
        "Your appointment with {name} on {start} is booked and confirmed.",
        "An appointment with {name} on {start} is booked and confirmed.",
    ),
    confirmed=Sentence(
        "Appointment confirmed",
        "Your appointment with {name} on {start} is confirmed.",
        "The appointment with {name} on {start} is confirmed.",
    ),
    completed=Sentence(
        "Appointment completed",
        "Your appointment with {name} on {start} is completed.",
        "The appointment with {name} on {start} is completed.",
    ),
    no_show=Sentence(
        "Appointment marked as missed",
        "Your appointment with {name} on {start} is marked as missed.",
        "The appointment with {name} on {start} is marked as missed.",
    ),
    updated=Sentence(
        "Appointment updated",
        "Your appointment with {name} on {start} was updated.",
        "The appointment with {name} on {start} was updated.",
    ),
    cancelled=Sentence(
        "Appointment cancelled",
        "Your appointment with {name} on {start} is cancelled.",
        "The appointment with {name} on {start} is cancelled.",
    ),
    unanswered=Sentence(
        "Appointment cancelled",
        "Your appointment with {name} on {start} is cancelled because it was not confirmed in time.",
        "The appointment with {name} on {start} is cancelled because it was not confirmed in time.",
    ),
    moved=Sentence(
        "Appointment moved",
        "Your appointment with {name} has been moved from {previous} to {start}.",
        "The appointment with {name} has been moved from {previous} to {start}.",
    ),
    moved_unconfirmed=Sentence(
        "Appointment moved",
        "Your appointment with {name} has been moved from {previous} to {start}. It is not confirmed yet.",
        "The appointment with {name} has been moved from {previous} to {start}. It awaits your confirmation.",
    ),
)
