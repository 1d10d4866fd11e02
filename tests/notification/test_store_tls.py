import asyncio
from pathlib import Path

import pytest

from services.contracts.enums import Role
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.certificates import server_certificate
from tests.support.proxy import Proxy
from tests.support.running import client_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually


async def test_stores_are_reached_by_tls_and_others_than_the_trusted_are_not(
    auth: AuthStub, mongodb_url: str, redis_url: str, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = server_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = server_certificate(tmp_path / "other")
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    async with Proxy.to(mongodb_url, tls) as mongodb, Proxy.to(redis_url, tls) as redis:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        by_tls, redis_by_tls = f"{mongodb.url}&tls=true", redis.url.replace("redis://", "rediss://")
        async with client_of(service_of(auth, by_tls, redis_by_tls)) as client:
            await streams.tell(appointment(patient, doctor))

            async def told() -> bool:
                answer = await client.get(f"/api/notifications/{patient.id}", headers=auth.bearer(patient))
                return answer.status_code == 200 and len(answer.json()["items"]) == 1

            await eventually(told)
            assert {check["status"] for check in (await client.get("/api/health")).json()["checks"].values()} == {"ok"}

        async def refused(url: str) -> bool:
            async with client_of(service_of(auth, url, redis_by_tls)) as client:
                return (await client.get("/api/health")).status_code == 503

        assert all(await asyncio.gather(refused(f"{by_tls}&tlsCAFile={other}"), refused(f"{mongodb_url}&tls=true")))
