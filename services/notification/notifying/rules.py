"""Which notification an event makes, and who gets it in which channel."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from services.contracts.enums import MailKind
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
    UserState,
)
from services.notification.notifying.schemas import Channel, NotificationType

APPOINTMENT_TYPES: dict[type[AppointmentEvent], NotificationType] = {
    AppointmentCreated: NotificationType.APPOINTMENT_CREATED,
    AppointmentUpdated: NotificationType.APPOINTMENT_UPDATED,
    AppointmentCancelled: NotificationType.APPOINTMENT_CANCELLED,
    AppointmentRescheduled: NotificationType.APPOINTMENT_RESCHEDULED,
}
MAIL_TYPES = {
    MailKind.PASSWORD_RESET: NotificationType.PASSWORD_RESET,
    MailKind.VERIFY_EMAIL: NotificationType.EMAIL_VERIFICATION,
    MailKind.PASSWORD_CHANGED: NotificationType.PASSWORD_CHANGED,
    MailKind.EMAIL_CHANGED: NotificationType.EMAIL_CHANGED,
    MailKind.MFA_ENABLED: NotificationType.MFA_ENABLED,
    MailKind.MFA_DISABLED: NotificationType.MFA_DISABLED,
}


def recipients(people: Iterable[UserState], channels: Sequence[Channel]) -> list[tuple[UUID, Channel]]:
    """Return both users in every channel, including the one who caused the event, and no erased user."""
    return [(user.id, channel) for user in people if not user.erased for channel in channels]
