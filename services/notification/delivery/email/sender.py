"""E-mail: what a mail server's answer means for a delivery."""

import asyncio
import re

from aiosmtplib import SMTPDataError, SMTPException, SMTPNotSupported, SMTPRecipientsRefused, SMTPResponseException

from services.kit.addresses import parse_mailbox
from services.kit.errors import NotReady
from services.notification.delivery.email.composer import Email, EmailComposer
from services.notification.delivery.email.mime import to_mime
from services.notification.delivery.email.smtp import SmtpConnections
from services.notification.delivery.outcomes import Deferred, Failure, Reason, Refused
from services.notification.notifying.schemas import Channel

# "Authentication required" and the like are about us: other settings cure them, for all messages.
_OURS = {503, 530, 534, 535, 538}


class EmailSender:
    channel = Channel.EMAIL

    def __init__(
        self, composer: EmailComposer, connections: SmtpConnections, mailbox: str, timeout_seconds: float
    ) -> None:
        self._connections, self._from, self._timeout = connections, parse_mailbox(mailbox), timeout_seconds
        self._reachable = True
        self.compose, self.hang_up = composer.compose, connections.hang_up

    async def check(self) -> None:
        """A health check: whether the server could be reached when it was last needed."""
        if not self._reachable:
            raise NotReady("the mail server cannot be reached")

    async def send(self, message: Email) -> None:
        """Return when the server has accepted the message; raise `Refused` or `Deferred`.

        No failure of a message with a secret quotes the server, which may have repeated the secret.
        """
        mime, to = to_mime(message, self._from)
        try:
            async with asyncio.timeout(self._timeout):
                await self._connections.transmit(mime, self._from.addr_spec, to)
        except SMTPNotSupported as error:
            if to.isascii():
                raise _failure(error) from None
            raise Refused(Reason.RECIPIENT_REFUSED, "The mail server takes no such address (SMTPUTF8)") from None
        except (SMTPException, OSError) as error:
            failure = _failure(error)
            self._reachable = failure.reason not in (Reason.SERVER_UNREACHABLE, Reason.TIMED_OUT)
            if message.secret_expires_at and isinstance(error, SMTPResponseException | SMTPRecipientsRefused):
                failure.error = _code_of(failure.error)
            raise failure from None  # the cause contains the address
        self._reachable = True


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
    """Take addresses out: servers like to repeat the one that they refuse."""
    text = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else str(error)
    return re.sub(r"\S*@\S*", "(address)", text)[:300]


def _code_of(described: str) -> str:
    """Keep the reply's code and its enhanced code (RFC 3463), which are numbers."""
    code = re.match(r"\d{3}(?: \d\.\d{1,3}\.\d{1,3}\b)?", described)
    return code[0] if code else "The mail server's answer is not SMTP"
