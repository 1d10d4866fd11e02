"""TLS on the internal ports: the server presents a certificate, the client verifies it, and both renew theirs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from litestar import Litestar, get

from services.kit.command import server
from services.kit.command.server import Certificate
from services.kit.errors import Unavailable
from services.kit.internal import InternalClient, PublishedDocument
from tests.kit.command.processes import SlowService
from tests.support.certificates import server_certificate
from tests.support.waiting import eventually

TOKEN = "t" * 32


@get("/internal/thing")
async def thing() -> dict[str, str]:
    return {"name": "chair"}


def certificate_in(folder: Path) -> Path:
    folder.mkdir()
    return server_certificate(folder)[1]


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[str]:
    app = Litestar([thing], openapi_config=None, logging_config=None)
    listener = server.Listener("127.0.0.1", 0)
    running = server._server(app, 5, "off", certificate)
    task = asyncio.create_task(running.serve([listener.socket]))
    yield f"https://localhost:{listener.port}"
    running.should_exit = True
    await task


async def test_a_client_trusts_the_given_authority_and_no_other(tmp_path: Path) -> None:
    own, other = certificate_in(tmp_path / "own"), certificate_in(tmp_path / "other")
    async with serving(Certificate(str(own), str(own))) as url:
        client = InternalClient(url, TOKEN, str(own))
        assert await client.get("/internal/thing", dict[str, str]) == {"name": "chair"}
        await client.close()
        document = PublishedDocument(f"{url}/internal/thing", str(own))
        assert await document.fetch() == b'{"name":"chair"}'
        await document.close()
        for untrusting in (
            InternalClient(url, TOKEN, str(other)),
            InternalClient(url, TOKEN),
            InternalClient(url.replace("https", "http"), TOKEN),
        ):
            with pytest.raises(Unavailable):
                await untrusting.get("/internal/thing", dict[str, str])
            await untrusting.close()
        with pytest.raises(httpx.ConnectError):
            await PublishedDocument(f"{url}/internal/thing", str(other)).fetch()


@pytest.mark.parametrize("broken_first", [False, True], ids=["complete", "after half a change"])
async def test_a_renewed_certificate_is_served_and_a_renewed_authority_trusted_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_first: bool
) -> None:
    monkeypatch.setattr(server, "_CERTIFICATE_SECONDS", 0.02)
    served, trusted = certificate_in(tmp_path / "served"), tmp_path / "ca.crt"
    old, new = served.read_text(), certificate_in(tmp_path / "new").read_text()
    trusted.write_text(old)
    certificate = Certificate(str(served), str(served))
    renewing = asyncio.create_task(certificate.keep_current())
    async with serving(certificate) as url:
        client = InternalClient(url, TOKEN, str(trusted))
        assert await client.get("/internal/thing", dict[str, str])
        if broken_first:
            served.write_text("")
            await asyncio.sleep(0.1)
        served.write_text(new)
        await eventually(lambda: presents(url, new))
        trusted.write_text(new)
        renewed = InternalClient(url, TOKEN, str(trusted))
        await eventually(lambda: answers(renewed))
        await client.close()
        await renewed.close()
    renewing.cancel()


async def presents(url: str, pem: str) -> bool:
    found = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", int(url.rpartition(":")[2])))
    return found.strip() in pem


async def answers(client: InternalClient) -> bool:
    try:
        return bool(await client.get("/internal/thing", dict[str, str]))
    except Unavailable:
        return False


async def test_a_service_with_a_certificate_serves_its_internal_port_by_tls(tmp_path: Path) -> None:
    path = str(certificate_in(tmp_path / "own"))
    service = SlowService(tmp_path, INTERNAL_CERTIFICATE_FILE=path, INTERNAL_KEY_FILE=path)
    public, internal = await service.ports()
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=path), trust_env=False) as client:

        async def serves_metrics() -> bool:
            try:
                return (await client.get(f"https://localhost:{internal}/metrics")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(serves_metrics)
        assert (await client.get(f"http://localhost:{public}/api/health/live")).status_code == 200
        with pytest.raises(httpx.HTTPError):
            await client.get(f"http://localhost:{internal}/metrics")
    await asyncio.to_thread(service.stop)


async def test_a_certificate_without_its_key_stops_the_start(tmp_path: Path) -> None:
    service = SlowService(tmp_path, INTERNAL_CERTIFICATE_FILE=str(certificate_in(tmp_path / "own")))
    assert await asyncio.to_thread(service.wait) != 0
    assert "INTERNAL_CERTIFICATE_FILE and INTERNAL_KEY_FILE belong together: set both or neither" in service.output
