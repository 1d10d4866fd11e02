"""Mails and passwords cross a network encrypted."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.contracts.enums import Role
from services.kit.http.service import Service
from services.notification.delivery.email.smtp import is_confidential
from services.notification.repository import Store
from tests.notification.delivery.email.emails import email_becomes, time_passes
from tests.support.auth_stub import AuthStub
from tests.support.certificates import server_certificate
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment


async def test_it_signs_in_over_starttls_where_that_is_offered_and_trusts_no_unknown_certificate(
    emailing: Callable[..., Service],
    auth: AuthStub,
    store: Store,
    streams: Streams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, trusted = server_certificate(tmp_path)
    server = MailServer(context, (b"mailer@example.com", b"p:ss/word@1"))
    await server.start()
    url = server.url.replace("127.0.0.1", "mailer%40example.com:p%3Ass%2Fword%401@localhost")
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    try:
        async with client_of(emailing(SMTP_URL=url)):
            await streams.tell(appointment(patient, doctor))
            await email_becomes(store, patient, attempts=1, reason="server_unreachable")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with client_of(emailing(SMTP_URL=url.replace("p%3A", "wrong"))):
            await time_passes(store, patient)
            await email_becomes(store, patient, attempts=2, reason="sender_refused")
        async with client_of(emailing(SMTP_URL=url)):
            await time_passes(store, patient, doctor)
            await email_becomes(store, patient, status="SENT", attempts=3)
            await email_becomes(store, doctor, status="SENT")
        assert server.encrypted == [True, True]
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("peer", "encrypted", "confidential"),
    [("127.0.0.1", False, True), ("::1", False, True), ("192.0.2.1", False, False), ("192.0.2.1", True, True)],
)
def test_a_password_crosses_a_network_encrypted_or_not_at_all(peer: str, encrypted: bool, confidential: bool) -> None:
    connection = {"peername": (peer, 587), "ssl_object": object() if encrypted else None}
    client: Any = SimpleNamespace(get_transport_info=connection.get)
    assert is_confidential(client) is confidential
