"""The command line, in processes of their own."""

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from urllib.parse import urlsplit

import httpx
import pymongo
import pytest
from pymongo.errors import OperationFailure
from uuid_utils.compat import uuid7

from services.kit.trail.entry import entry
from services.notification.audit.repository import AuditTrail, Chain
from services.standalone.process import free_port
from tests.notification.services import environment_of, migrated, store_of
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.databases import ServerUrls
from tests.support.program import completed
from tests.support.waiting import eventually, without_hang


async def run(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(completed, "services.notification", command, environment=environment)


@pytest.mark.parametrize("name", ["serve", "migrate"])
async def test_a_missing_setting_is_named_and_nothing_starts(name: str) -> None:
    ended = await run(name, REDIS_URL="redis://127.0.0.1:1", NOTIFICATION_TO_AUTH_TOKEN=INTERNAL_TOKEN)
    assert ended.returncode == 2
    assert ended.stderr.startswith("MONGODB_URL is missing: expected a URL such as mongodb://")


async def test_the_audit_trails_chain_is_checked(mongodb_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/verified_{uuid7().hex[-6:]}_")
    store = store_of(await migrated(url))
    await AuditTrail(store).add(entry("record.read", target_type="notifications", target_id=uuid7()))
    await Chain(store).seal()
    whole = await run("verify-audit", MONGODB_URL=url)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.startswith("intact; not sealed yet: 0\nhead 1:")
    await store["audit_log"].delete_many({})
    broken = await run("verify-audit", MONGODB_URL=url)
    assert broken.returncode == 1
    assert "broken at link 1: entry" in broken.stderr
    store.close()


async def test_migrate_makes_the_indexes_ahead_and_may_be_repeated(mongodb_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/migrated_{uuid7().hex[-6:]}_")
    for printed in ("made: notification_once, ", "nothing to make\n"):
        ended = await run("migrate", MONGODB_URL=url)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(printed)
    store = store_of(url)
    assert "notification_once" in await store["notifications"].index_information()
    store.close()


async def test_migrate_gives_the_service_a_user_of_its_own_database_and_the_password_of_its_url(
    servers: ServerUrls,
) -> None:
    name = f"owned_{uuid7().hex[-6:]}"
    for password in ("first", "second"):
        own = servers.mongodb.replace("/?authSource=admin", f"/{name}").replace(
            urlsplit(servers.mongodb).netloc.split("@")[0], f"{name}:{password}"
        )
        ended = await run("migrate", MONGODB_URL=own, MONGODB_MIGRATION_URL=servers.mongodb)
        assert (ended.returncode, ended.stderr) == (0, "")
    store = store_of(own)
    assert "notification_once" in await store["notifications"].index_information()
    store.close()
    with pymongo.MongoClient[dict[str, str]](own) as client, pytest.raises(OperationFailure, match="not authorized"):
        client["other"]["things"].insert_one({"whose": "not ours"})


async def test_migrate_says_what_is_missing_in_the_url_of_the_user_that_it_should_make(servers: ServerUrls) -> None:
    ended = await run(
        "migrate", MONGODB_URL="mongodb://127.0.0.1:1/notification", MONGODB_MIGRATION_URL=servers.mongodb
    )
    assert ended.returncode == 2
    assert "MONGODB_URL has no user and password" in ended.stderr


async def test_migrate_names_an_index_that_documents_contradict(mongodb_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/contradicted_{uuid7().hex[-6:]}_")
    with pymongo.MongoClient[dict[str, str]](url) as client:
        client.get_default_database()["notifications"].insert_many([{"eventId": "twice"}, {"eventId": "twice"}])
    ended = await run("migrate", MONGODB_URL=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("MongoDB refuses the index notification_once of notifications: ")
    assert "duplicate key" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_migrate_says_that_mongodb_does_not_answer() -> None:
    ended = await run("migrate", MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}")
    assert ended.returncode == 1
    assert "MongoDB does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_serve_answers_until_it_is_asked_to_stop(auth: AuthStub, mongodb_url: str, redis_url: str) -> None:
    port = free_port()
    # As an operator starts it, and not forked from a process that has imported everything.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.notification", "serve"),
        env={
            **os.environ,
            **environment_of(auth, mongodb_url, redis_url),
            "PORT": str(port),
            "INTERNAL_PORT": "0",
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    async with httpx.AsyncClient() as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/api/health")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(ready)
    process.send_signal(signal.SIGTERM)
    async with without_hang():
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"Traceback" not in output
