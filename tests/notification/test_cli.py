"""The command line, in processes of their own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.standalone.process import free_port
from tests.notification.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.notification.conftest import store_of
from tests.notification.streams import eventually


async def command(name: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.notification", name),
        env={
            "PATH": os.defpath,
            **{key: os.environ[key] for key in os.environ if key.startswith("COV")},
            **environment,
        },
        stdout=PIPE,
        stderr=PIPE,
    )


@pytest.mark.parametrize("name", ["serve", "migrate"])
async def test_a_missing_setting_is_named_and_nothing_starts(name: str) -> None:
    process = await command(name, REDIS_URL="redis://127.0.0.1:1", INTERNAL_TOKEN=INTERNAL_TOKEN)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("MONGODB_URL is missing: expected a URL such as mongodb://")


async def test_migrate_makes_the_indexes_ahead_and_may_be_repeated(mongodb_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/migrated_{uuid7().hex[-6:]}_")
    for _ in range(2):
        process = await command("migrate", MONGODB_URL=url)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    store = store_of(url)
    assert "notification_once" in await store["notifications"].index_information()
    store.close()


async def test_migrate_says_that_mongodb_does_not_answer() -> None:
    process = await command("migrate", MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}")
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"MongoDB does not answer" in errors
    assert b"Traceback" not in errors


async def test_serve_answers_until_it_is_asked_to_stop(auth: AuthStub, mongodb_url: str, redis_url: str) -> None:
    port = free_port()
    process = await command(
        "serve",
        MONGODB_URL=mongodb_url,
        REDIS_URL=redis_url,
        INTERNAL_TOKEN=INTERNAL_TOKEN,
        AUTH_INTERNAL_URL=auth.url,
        JWKS_URL=f"{auth.url}/api/auth/.well-known/jwks.json",
        PORT=str(port),
        INTERNAL_PORT="0",
    )
    async with httpx.AsyncClient() as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/api/health")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(ready, 20)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"Traceback" not in output
