"""Stores that require TLS, with certificates of an authority that the environment names."""

from pathlib import Path

import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls
from tests.auth.people import patient_form
from tests.support.certificates import server_certificate
from tests.support.proxy import Proxy
from tests.support.running import client_of
from tests.support.waiting import eventually

_MIGRATIONS = Path(__file__).parents[2] / "services" / "auth" / "migrations"


async def test_stores_are_reached_by_tls_and_others_than_the_trusted_are_not(
    settings: Settings, auth_database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = server_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = server_certificate(tmp_path / "other")
    async with (
        Proxy.to(auth_database.application, tls) as postgres,
        Proxy.to(auth_database.migration, tls) as postgres_of_owner,
        Proxy.to(settings.redis_url, tls) as redis,
    ):
        monkeypatch.setenv("PGSSLROOTCERT", str(trusted))
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        verified = "?sslmode=verify-full"
        redis_url = redis.url.replace("redis://", "rediss://")
        there = msgspec.structs.replace(settings, auth_database_url=postgres.url + verified, redis_url=redis_url)
        assert (
            await migrate(
                _MIGRATIONS, migration_url=postgres_of_owner.url + verified, application_url=there.auth_database_url
            )
            == []
        )

        async with client_of(create(there)) as client:
            assert (await client.post("/api/patients/signup", json=patient_form())).status_code == 201

            async def all_well() -> bool:
                return {check["status"] for check in (await _health(client)).json()["checks"].values()} == {"ok"}

            await eventually(all_well)

        for of_nobody in (
            {"auth_database_url": f"{postgres.url}{verified}&sslrootcert={other}"},
            {"auth_database_url": auth_database.application + verified},  # a server without TLS
        ):
            async with client_of(create(msgspec.structs.replace(there, **of_nobody))) as client:
                assert (await _health(client)).status_code == 503
                assert (await client.post("/api/patients/signup", json=patient_form())).status_code == 503

        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        async with client_of(create(there)) as client:
            assert (await _health(client)).json()["checks"]["redis"]["status"] == "unavailable"


async def _health(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get("/api/health")
