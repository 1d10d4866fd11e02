"""A real SMTP server whose replies, delays and outages a test controls."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from email import message_from_string
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

# aiosmtpd logs recipients, which tests/support/canary.py would find in the logs of the run.
logging.getLogger("mail.log").setLevel(logging.WARNING)


class MailServer:
    """`taken` holds the messages answered with 250, `seen` every message sent.

    `refused` holds replies to RCPT by address, and `replies` those to the next messages, in place of 250. The server
    waits `seconds` before each. A connection may send `per_connection` messages. `accepting` is called after a message
    is taken and before the client gets its 250. `smtputf8` says whether the server offers addresses beyond ASCII.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, login: tuple[bytes, bytes] | None = None) -> None:
        self.taken: list[EmailMessage] = []
        self.seen: list[EmailMessage] = []
        self.refused: dict[str, str] = {}
        self.replies: list[str] = []
        self.seconds = 0.0
        self.per_connection = 1000
        self.accepting: Callable[[], None] = lambda: None
        self.smtputf8 = False
        self.connections = 0
        self.encrypted: list[bool] = []
        self._tls, self._login = tls, login
        self._messages: Counter[Any] = Counter()
        self._port = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen, after a stop on the same port again."""
        self._server = await asyncio.get_running_loop().create_server(self._protocol, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in self._transports:
            # A TLS transport that was closed twice cannot be aborted.
            if not transport.is_closing():
                transport.abort()
        self._transports.clear()
        await asyncio.sleep(0)

    def to(self, address: str) -> list[EmailMessage]:
        return [message for message in self.taken if message["To"] == address]

    def _protocol(self) -> SMTP:
        server = self

        class Protocol(SMTP):
            def connection_made(self, transport: Any) -> None:
                server.connections += 1
                server._transports.add(transport)
                super().connection_made(transport)

        return Protocol(
            self,
            hostname="mail.test",
            enable_SMTPUTF8=server.smtputf8,
            tls_context=self._tls,
            auth_required=self._login is not None,
            authenticator=self._authenticate if self._login else None,
            auth_require_tls=self._tls is not None,
        )

    def _authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == self._login, handled=False)

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._messages[session.peer] += 1
        if self._messages[session.peer] > self.per_connection:
            return "421 4.7.0 Too many messages"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        # As text, because a message with SMTPUTF8 has headers in UTF-8.
        message = message_from_string((envelope.original_content or b"").decode(), policy=default)
        assert isinstance(message, EmailMessage)
        assert envelope.rcpt_tos == [message["To"]]
        self.seen.append(message)
        self.encrypted.append(session.ssl is not None)
        await asyncio.sleep(self.seconds)
        if self.replies:
            return self.replies.pop(0)
        self.taken.append(message)
        self.accepting()
        return "250 OK"


def part(message: EmailMessage, kind: str) -> str:
    """Return the text of the part whose subtype is `kind`, with LF line ends."""
    body = message.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")
