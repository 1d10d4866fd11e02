"""Connections to the mail server."""

import asyncio
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponseException, SMTPServerDisconnected

from services.kit.settings import SettingsError
from services.notification.delivery.outcomes import Deferred, Reason

_PORTS = {"smtp": 587, "smtps": 465}
_GOODBYE_SECONDS = 1.0
_CLOSING = 421


class SmtpConnections:
    """Keeps connections for the next messages until `hang_up` is called."""

    def __init__(self, server: SplitResult, timeout_seconds: float, *, requires_tls: bool) -> None:
        self._host, self._port = server.hostname or "", server.port or _PORTS[server.scheme]
        self._encrypted = server.scheme == "smtps"
        self._login = (unquote(server.username), unquote(server.password or "")) if server.username else None
        self._timeout, self._requires_tls = timeout_seconds, requires_tls
        # Made once, because it reads the system's certificates.
        self._tls = ssl.create_default_context()
        self._idle: list[SMTP] = []

    @classmethod
    def of(cls, url: str, timeout_seconds: float, *, requires_tls: bool = True) -> "SmtpConnections":
        """Raise `SettingsError` where `url` is malformed."""
        server = urlsplit(url)
        try:
            server.port  # noqa: B018 - raises for a malformed port
        except ValueError:
            raise SettingsError("SMTP_URL is malformed: expected a port to 65535") from None
        return cls(server, timeout_seconds, requires_tls=requires_tls)

    async def transmit(self, message: EmailMessage, sender: str, to: str) -> None:
        """Return when the server has accepted the message."""
        while self._idle:
            try:
                return await self._transmit(self._idle.pop(), message, sender, to)
            except SMTPServerDisconnected:
                continue  # the server has closed this connection; another may do
            except SMTPResponseException as error:
                if error.code != _CLOSING:
                    raise
        return await self._transmit(await self._connect(), message, sender, to)

    async def hang_up(self) -> None:
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(_quit, idle))

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

    async def _transmit(self, client: SMTP, message: EmailMessage, sender: str, to: str) -> None:
        try:
            await client.send_message(message, sender=sender, recipients=[to])
        except BaseException:
            client.close()
            raise
        self._idle.append(client)


def is_confidential(client: SMTP) -> bool:
    """Tell whether nobody on the way can read along: an attacker may strip STARTTLS from a server's answer."""
    peer = client.get_transport_info("peername")
    return client.get_transport_info("ssl_object") is not None or ip_address(peer[0]).is_loopback


async def _quit(client: SMTP) -> None:
    with suppress(SMTPException, OSError):
        await client.quit(timeout=_GOODBYE_SECONDS)
    client.close()
