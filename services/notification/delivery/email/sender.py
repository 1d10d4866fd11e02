"""E-mail over SMTP: what a message looks like, and what a server's answer means for its delivery."""

import asyncio
import html
import re
import socket
import ssl
from contextlib import suppress
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import parseaddr
from ipaddress import ip_address
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID

import msgspec
from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from services.kit.errors import NotReady
from services.kit.settings import SettingsError
from services.notification.delivery.schemas import Reason
from services.notification.notifying.wording import Content

_PORTS = {"smtp": 587, "smtps": 465}
_GOODBYE_SECONDS = 1.0
_CLOSING = 421
# "Authentication required" and its like are about us: right settings mend them, for every message.
_OURS = {503, 530, 534, 535, 538}


class Failure(Exception):
    """An attempt did not succeed. `error` is for an admin's eyes, and has no address in it."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(reason)
        self.reason, self.error = reason, error


class Refused(Failure):
    """It never will."""


class Void(Failure):
    """It need not any more: what the message is for has gone."""


class Deferred(Failure):
    """A later one may."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """`id` and `created_at` are the delivery's: a repetition has the same Message-ID and the same Date.

    `message` is what the notification keeps and shows of it, and so never has a secret in it. One whose content has a
    secret says when that expires, and no failure to send it quotes the server: it may have repeated the secret.
    """

    id: UUID
    created_at: datetime
    recipient_id: UUID
    to: str
    content: Content
    message: str
    secret_expires_at: datetime | None = None


class Mailer:
    """Keeps a connection for the next message for as long as `hang_up` is not called."""

    def __init__(self, server: SplitResult, sender: Address, timeout_seconds: float, *, requires_tls: bool) -> None:
        self._host, self._port = server.hostname or "", server.port or _PORTS[server.scheme]
        self._encrypted = server.scheme == "smtps"
        self._login = (unquote(server.username), unquote(server.password or "")) if server.username else None
        self._sender, self._timeout, self._requires_tls = sender, timeout_seconds, requires_tls
        # Made once: it reads the system's certificates.
        self._tls = ssl.create_default_context()
        self._idle: list[SMTP] = []
        self._reachable = True

    async def check(self) -> None:
        """A health check: the server was there when it was last needed."""
        if not self._reachable:
            raise NotReady("the mail server cannot be reached")

    async def send(self, mail: Mail) -> None:
        """Returns when the server has taken the message over, and raises `Refused` or `Deferred`."""
        message = self._message(mail)
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(message, mail.to)
        except (SMTPException, OSError) as error:
            failure = _failure(error)
            self._reachable = failure.reason not in (Reason.SERVER_UNREACHABLE, Reason.TIMED_OUT)
            if mail.secret_expires_at is not None and isinstance(error, SMTPResponseException | SMTPRecipientsRefused):
                failure.error = _code_of(failure.error)
            raise failure from None  # the cause has the address in it
        self._reachable = True

    async def hang_up(self) -> None:
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(_part, idle))

    def _message(self, mail: Mail) -> EmailMessage:
        """Headers take parsed values only: an address with a line break, or with a second address, is none."""
        try:
            recipient = Address(addr_spec=mail.to)
        except (ValueError, IndexError, MessageError):
            raise Refused(Reason.MALFORMED_ADDRESS, "The recipient's address is not one") from None
        message = EmailMessage(SMTP_POLICY)
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = mail.content.subject
        message["Date"] = mail.created_at
        message["Message-ID"] = f"<{mail.id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # no out-of-office reply, please (RFC 3834)
        message.set_content("\n\n".join(mail.content.paragraphs) + "\n", cte="quoted-printable")
        message.add_alternative(_html(mail.content), subtype="html", cte="quoted-printable")
        return message

    async def _send(self, message: EmailMessage, to: str) -> None:
        while self._idle:
            try:
                return await self._transmit(self._idle.pop(), message, to)
            except SMTPServerDisconnected:
                continue  # it had enough of this connection, and a new one will do
            except SMTPResponseException as error:
                if error.code != _CLOSING:
                    raise
        return await self._transmit(await self._connect(), message, to)

    async def _connect(self) -> SMTP:
        client = SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._encrypted,
            tls_context=self._tls,
            local_hostname=socket.gethostname(),
            timeout=self._timeout,
        )
        try:
            await client.connect()  # with STARTTLS where it is offered
            if (self._login or self._requires_tls) and not is_confidential(client):
                raise Deferred(Reason.SENDER_REFUSED, "The server offers no TLS: it gets neither a password nor a mail")
            if self._login:
                await client.login(*self._login)
        except BaseException:
            client.close()
            raise
        return client

    async def _transmit(self, client: SMTP, message: EmailMessage, to: str) -> None:
        try:
            await client.send_message(message, sender=self._sender.addr_spec, recipients=[to])
        except BaseException:
            client.close()
            raise
        self._idle.append(client)


def create_mailer(
    url: str, sender: str | None, timeout_seconds: float, tls: Literal["required", "opportunistic"] = "required"
) -> Mailer:
    """Raises `SettingsError`."""
    if sender is None:
        raise SettingsError("MAIL_FROM is missing: expected the sender's address, since SMTP_URL is set")
    server = urlsplit(url)
    name, address = parseaddr(sender)
    try:
        server.port  # noqa: B018 - a number that is none is found only now
    except ValueError:
        raise SettingsError("SMTP_URL is malformed: expected a port to 65535") from None
    return Mailer(server, Address(name, addr_spec=address), timeout_seconds, requires_tls=tls == "required")


async def _part(client: SMTP) -> None:
    with suppress(SMTPException, OSError):
        await client.quit(timeout=_GOODBYE_SECONDS)
    client.close()


def is_confidential(client: SMTP) -> bool:
    """Nobody on the way can read along: whoever strips STARTTLS from a server's answer would have the password."""
    peer = client.get_transport_info("peername")
    return client.get_transport_info("ssl_object") is not None or ip_address(peer[0]).is_loopback


def _failure(error: Exception) -> Failure:
    match error:
        case SMTPRecipientsRefused():
            return _refusal(error.recipients[0], Reason.RECIPIENT_REFUSED)
        case SMTPDataError():
            return _refusal(error, Reason.MESSAGE_REFUSED)
        case SMTPResponseException() if error.code < 500:
            return Deferred(Reason.SERVER_BUSY, _described(error))
        case TimeoutError():
            return Deferred(Reason.TIMED_OUT, "The mail server did not answer in time")
        case OSError() if not isinstance(error, SMTPResponseException):
            return Deferred(Reason.SERVER_UNREACHABLE, _described(error))
    return Deferred(Reason.SENDER_REFUSED, _described(error))


def _refusal(error: SMTPResponseException, reason: Reason) -> Failure:
    if error.code < 500:
        return Deferred(Reason.SERVER_BUSY, _described(error))
    if error.code in _OURS:
        return Deferred(Reason.SENDER_REFUSED, _described(error))
    return Refused(reason, _described(error))


def _described(error: Exception) -> str:
    """Servers like to repeat the address that they refuse."""
    text = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else str(error)
    return re.sub(r"\S*@\S*", "(address)", text)[:300]


def _code_of(described: str) -> str:
    """The reply's code and its enhanced one (RFC 3463), which are numbers."""
    code = re.match(r"\d{3}(?: \d\.\d{1,3}\.\d{1,3}\b)?", described)
    return code[0] if code else "The mail server answered something else than SMTP"


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
