"""An e-mail as MIME: text and HTML."""

import html
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY

from services.kit.addresses import MalformedAddress, wire_address
from services.notification.delivery.email.composer import Email
from services.notification.delivery.outcomes import Reason, Refused
from services.notification.notifying.wording import Content


def to_mime(email: Email, sender: Address) -> tuple[EmailMessage, str]:
    """Return the message and its recipient as servers take it.

    Put parsed values only into headers: an address with a line break or with a second address is refused.
    """
    try:
        recipient = wire_address(email.to)
    except MalformedAddress:
        raise Refused(Reason.MALFORMED_ADDRESS, "The recipient's address is malformed") from None
    message = EmailMessage(SMTP_POLICY)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = email.content.subject
    message["Date"] = email.created_at
    message["Message-ID"] = f"<{email.id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"  # asks for no out-of-office reply (RFC 3834)
    message.set_content("\n\n".join(email.content.paragraphs) + "\n", cte="quoted-printable")
    message.add_alternative(_html(email.content), subtype="html", cte="quoted-printable")
    return message, recipient.addr_spec


def _html(content: Content) -> str:
    paragraphs = "\n".join(f"<p>{_linked(one, content.link)}</p>" for one in content.paragraphs)
    return (
        f'<!doctype html>\n<html lang="{html.escape(content.language)}">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(content.subject)}</title></head>\n"
        f'<body style="font-family: sans-serif; line-height: 1.5">\n{paragraphs}\n</body>\n</html>\n'
    )


def _linked(paragraph: str, link: str | None) -> str:
    escaped = html.escape(paragraph)
    return f'<a href="{escaped}">{escaped}</a>' if paragraph == link else escaped
