from services.contracts.events import decode_appointment_event
from services.kit.errors import Unavailable
from services.notification.delivery.mail import Deferred, Mail, Unwanted
from services.notification.delivery.schemas import Claim, Reason
from services.notification.directory.service import Directory, UnknownUser
from services.notification.inbox.messages import mail


class Correspondence:
    """What leaves as e-mail is written when it leaves: to the address, in the zone and in the language of that time.

    A suspended person is written to as well: suspension ends what they may do, not their being told about a visit.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def write(self, claim: Claim) -> Mail:
        """Raises `Deferred` while there is nobody to write to, which is never a reason to give up at once, and
        `Unwanted` when the recipient was erased.
        """
        event = decode_appointment_event(claim.event)
        try:
            patient, doctor = await self._directory.get(event.patient_id, event.doctor_id)
        except UnknownUser:
            raise Deferred(Reason.NO_ADDRESS, "Auth does not know one of the two people") from None
        except Unavailable:
            raise Deferred(Reason.CONTACT_UNAVAILABLE, "Auth, or the database, is away") from None
        recipient, other = (patient, doctor) if claim.recipient_id == patient.id else (doctor, patient)
        if recipient.erased:
            raise Unwanted(Reason.ERASED, "The recipient was erased")
        if not recipient.email:
            raise Deferred(Reason.NO_ADDRESS, "The recipient has no e-mail address")
        content = mail(event, recipient, other)
        return Mail(
            id=claim.id,
            created_at=claim.created_at,
            to=recipient.email,
            content=content,
            message=content.paragraphs[0],
        )
