from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from services.contracts.enums import MailKind
from services.contracts.events import AppointmentEvent, MailRequested
from services.kit.errors import Unavailable
from services.notification.delivery.email.sender import Deferred, Mail, Void
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Claim, Reason
from services.notification.directory.service import Directory, UnknownUser
from services.notification.inbox.schemas import Channel
from services.notification.notifying.wording import letter, mail

# Pages of the web front end, which takes the token from the query and posts it to auth.
_PAGES = {kind: "verify-email" if kind is MailKind.VERIFY_EMAIL else "reset-password" for kind in MailKind}
_event: msgspec.json.Decoder[AppointmentEvent | MailRequested] = msgspec.json.Decoder(AppointmentEvent | MailRequested)


class Correspondence:
    """What leaves as e-mail is written when it leaves: to the address, in the zone and in the language of that time.

    A suspended person is written to as well: suspension ends what they may do, not their being told about a visit.
    """

    def __init__(
        self,
        directory: Directory,
        deliveries: DeliveryRepository,
        link_base_url: str | None = None,
        *,
        mails_per_pair_and_hour: int = 0,
    ) -> None:
        self._directory, self._deliveries, self._link_base_url = directory, deliveries, link_base_url
        self._mails_per_pair_and_hour = mails_per_pair_and_hour

    async def write(self, claim: Claim) -> Mail:
        """Raises `Deferred` while there is nobody to write to, which is never a reason to give up at once, and `Void`
        when there is nothing to say any more.
        """
        event = _event.decode(claim.event)
        try:
            if isinstance(event, MailRequested):
                return await self._letter(claim, event)
            return await self._message(claim, event)
        except UnknownUser:
            raise Deferred(Reason.NO_ADDRESS, "Auth does not know one of the two people") from None
        except Unavailable:
            raise Deferred(Reason.CONTACT_UNAVAILABLE, "Auth, or the database, is away") from None

    async def _message(self, claim: Claim, event: AppointmentEvent) -> Mail:
        patient, doctor = await self._directory.get(event.patient_id, event.doctor_id)
        recipient, other = (patient, doctor) if claim.recipient_id == patient.id else (doctor, patient)
        if recipient.erased:
            raise Void(Reason.ERASED, "The recipient was erased")
        if not recipient.email:
            raise Deferred(Reason.NO_ADDRESS, "The recipient has no e-mail address")
        if not (recipient := await self._directory.get_verified(recipient)).email_verified:
            # Its owner may be someone else, whom an attacker could have us write to.
            raise Void(Reason.ADDRESS_UNVERIFIED, "The recipient's address is not verified")
        if await self._has_enough(claim.channel, recipient.id, event):
            raise Deferred(Reason.TOO_MANY_MAILS, "The recipient got too many mails about this person in an hour")
        content = mail(event, recipient, other)
        return Mail(
            id=claim.id,
            created_at=claim.created_at,
            recipient_id=recipient.id,
            to=recipient.email,
            content=content,
            message=content.paragraphs[0],
        )

    async def _has_enough(self, channel: Channel, recipient_id: UUID, event: AppointmentEvent) -> bool:
        if not self._mails_per_pair_and_hour:
            return False
        sent = await self._deliveries.count_sent(
            channel, recipient_id, event.patient_id, event.doctor_id, within=timedelta(hours=1)
        )
        return sent >= self._mails_per_pair_and_hour

    async def _letter(self, claim: Claim, event: MailRequested) -> Mail:
        wanted = await self._directory.find_mail(event.mail_id)
        if wanted is None:
            raise Void(Reason.LINK_VOID, "The link is used, expired, or not to this address any more")
        link = None
        if self._link_base_url is not None:
            link = f"{self._link_base_url.rstrip('/')}/{_PAGES[wanted.kind]}?{urlencode({'token': wanted.token})}"
        content = letter(wanted, link)
        return Mail(
            id=claim.id,
            created_at=claim.created_at,
            recipient_id=wanted.user_id,
            to=wanted.email,
            content=content,
            message=content.paragraphs[0],
            secret_expires_at=wanted.expires_at,
        )
