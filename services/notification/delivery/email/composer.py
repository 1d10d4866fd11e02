from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from services.contracts.enums import MailKind
from services.contracts.events import AppointmentEvent, MailRequested
from services.kit.errors import Unavailable
from services.notification.delivery.email.repository import MailAllowances
from services.notification.delivery.outcomes import Deferred, Obsolete, Reason
from services.notification.delivery.schemas import Claim
from services.notification.delivery.sender import Message
from services.notification.directory.service import Directory, UnknownUser
from services.notification.notifying.wording import Content, account_content, appointment_content

# Pages of the web front end, which take the token from the query and post it to auth.
_PAGES = {kind: "verify-email" if kind is MailKind.VERIFY_EMAIL else "reset-password" for kind in MailKind}
_event: msgspec.json.Decoder[AppointmentEvent | MailRequested] = msgspec.json.Decoder(AppointmentEvent | MailRequested)


class Email(Message, frozen=True, kw_only=True):
    """`id` and `created_at` are the delivery's, so that a repetition has the same Message-ID and the same Date."""

    id: UUID
    created_at: datetime
    to: str
    content: Content


class EmailComposer:
    """Words an e-mail when it is sent: for the address, time zone and language of that moment.

    A suspended user gets e-mails too: a suspension may be the very reason why an appointment is cancelled.
    """

    def __init__(self, directory: Directory, allowances: MailAllowances, link_base_url: str | None = None) -> None:
        self._directory, self._allowances, self._link_base_url = directory, allowances, link_base_url

    async def compose(self, claim: Claim) -> Email:
        """Raise `Deferred` while there is no address, and `Obsolete` when there is nothing to say any more."""
        event = _event.decode(claim.event)
        try:
            if isinstance(event, MailRequested):
                return await self._about_account(claim, event)
            return await self._about_appointment(claim, event)
        except UnknownUser:
            raise Deferred(Reason.NO_ADDRESS, "Auth does not know one of the two users") from None
        except Unavailable:
            raise Deferred(Reason.CONTACT_UNAVAILABLE, "Auth or the database is unavailable") from None

    async def _about_appointment(self, claim: Claim, event: AppointmentEvent) -> Email:
        patient, doctor = await self._directory.get(event.patient_id, event.doctor_id)
        recipient, other = (patient, doctor) if claim.recipient_id == patient.id else (doctor, patient)
        if recipient.erased:
            raise Obsolete(Reason.ERASED, "The recipient was erased")
        if not recipient.email:
            raise Deferred(Reason.NO_ADDRESS, "The recipient has no e-mail address")
        if not (recipient := await self._directory.get_verified(recipient)).email_verified:
            # Its owner may be someone else, whom an attacker could have us write to.
            raise Obsolete(Reason.ADDRESS_UNVERIFIED, "The recipient's address is not verified")
        if not await self._allowances.take(claim.id, recipient.id, other.id):
            raise Deferred(
                Reason.TOO_MANY_MAILS, "The recipient has had the mails of an hour, in all or about this user"
            )
        return Email(
            id=claim.id,
            created_at=claim.created_at,
            recipient_id=recipient.id,
            to=recipient.email,
            content=appointment_content(event, recipient, other),
        )

    async def _about_account(self, claim: Claim, event: MailRequested) -> Email:
        mail = await self._directory.find_mail(event.mail_id)
        if mail is None:
            raise Obsolete(Reason.LINK_VOID, "The link is used, expired, or not for this address any more")
        link = None
        if self._link_base_url is not None:
            link = f"{self._link_base_url.rstrip('/')}/{_PAGES[mail.kind]}?{urlencode({'token': mail.token})}"
        return Email(
            id=claim.id,
            created_at=claim.created_at,
            recipient_id=mail.user_id,
            to=mail.email,
            content=account_content(mail, link),
            secret_expires_at=mail.expires_at,
        )
