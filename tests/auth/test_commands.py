"""The command line: each command runs with only the settings that it needs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from services.auth.cli import app
from services.auth.sessions.keys import rotate
from services.auth.settings import Settings
from services.kit.postgres.database import Database
from services.kit.trail.seals import Sealer
from services.standalone.databases import DatabaseUrls
from tests.auth.internal_tokens import AUTH_TO_BOOKING, BOOKING_TO_AUTH, NOTIFICATION_TO_AUTH
from tests.auth.people import People
from tests.support.canary import PASSWORD, new_email
from tests.support.databases import CloneDatabase
from tests.support.waiting import without_hang


async def _run(*arguments: str, password: str | None = None, **environment: str) -> Result:
    """Run a command in a thread, because it has an event loop of its own."""
    runner = CliRunner(env={name.upper(): value for name, value in environment.items()})
    typed = None if password is None else f"{password}\n"
    return await asyncio.to_thread(runner.invoke, app, list(arguments), input=typed)


async def _query(url: str, query: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(query, *values)
        return rows
    finally:
        await connection.close()


async def test_create_admin_leaves_an_existing_admin_unchanged(client: httpx.AsyncClient, settings: Settings) -> None:
    email = new_email()
    where = {"auth_database_url": settings.auth_database_url}
    made = await _run("create-admin", "--email", email, "--fullname", "Root", password="first password", **where)
    assert (made.exit_code, made.output) == (0, "created\n")
    login = {"email": email, "password": "first password"}
    user = (await client.post("/api/auth/login", json=login)).json()["user"]
    assert (user["role"], user["status"], user["fullname"]) == ("ADMIN", "ACTIVE", "Root")
    again = await _run("create-admin", "--email", email.upper(), password="second password", **where)
    assert again.exit_code == 0
    assert "not changed" in again.output
    assert (await client.post("/api/auth/login", json=login)).status_code == 200


async def test_create_admin_refuses_the_address_of_another_account(people: People, settings: Settings) -> None:
    patient = await people.patient()
    where = {"auth_database_url": settings.auth_database_url}
    refused = await _run("create-admin", "--email", patient.email, password=PASSWORD, **where)
    assert refused.exit_code == 2
    assert "already has an account" in refused.output


@pytest.mark.parametrize(
    ("email", "password"), [("root", PASSWORD), ("root@example.com", "short"), ("nobody@example.com", "")]
)
async def test_create_admin_refuses_invalid_input(settings: Settings, email: str, password: str) -> None:
    where = {"auth_database_url": settings.auth_database_url}
    assert (await _run("create-admin", "--email", email, password=password, **where)).exit_code == 2


async def test_an_unreachable_database_is_reported_in_one_message() -> None:
    where = {"auth_database_url": "postgresql://nobody:secret@127.0.0.1:1/none"}
    for command in (["create-admin", "--email", "root@example.com"], ["republish"], ["verify-audit"]):
        failed = await _run(*command, password=PASSWORD, **where)
        assert failed.exit_code == 2
        assert "unavailable" in failed.output
        assert "secret" not in failed.output


async def test_the_schema_is_migrated_once(clone_database: CloneDatabase, worker_id: str) -> None:
    urls = await clone_database("auth", f"auth_commands_{worker_id}")
    settings = {"auth_database_url": urls.application, "auth_migration_database_url": urls.migration}
    assert (await _run("migrate", **settings)).output == "nothing to apply\n"
    await _query(urls.migration, "DROP SCHEMA public CASCADE")
    await _query(urls.migration, "CREATE SCHEMA public")
    migrated = await _run("migrate", **settings)
    assert migrated.exit_code == 0
    assert migrated.output.startswith("applied: ")


async def test_the_audit_trail_is_verified(clone_database: CloneDatabase, worker_id: str) -> None:
    urls = await clone_database("auth", f"auth_audit_{worker_id}")
    where = {"auth_database_url": urls.application}
    made = await _run("create-admin", "--email", new_email(), password=PASSWORD, **where)
    assert made.exit_code == 0
    database = Database(urls.application, registry=CollectorRegistry())
    await database.open()
    await Sealer(database, CollectorRegistry()).seal()
    await database.close()
    verified = await _run("verify-audit", **where)
    assert verified.exit_code == 0
    assert "not sealed yet: 0" in verified.output
    head = verified.output.split()[-1]
    assert (await _run("verify-audit", "--head", head, **where)).output == verified.output
    assert (await _run("verify-audit", "--head", "1:x", **where)).exit_code == 2
    await _query(urls.migration, "UPDATE audit_log SET target_id = gen_random_uuid()")
    tampered = await _run("verify-audit", **where)
    assert (tampered.exit_code, tampered.output) == (1, "broken at link 1: entry 1 or its seal was changed\n")
    await _query(urls.migration, "DELETE FROM audit_seals")
    await _query(urls.migration, "DELETE FROM audit_log")
    assert (await _run("verify-audit", **where)).exit_code == 0
    assert (await _run("verify-audit", "--head", head, **where)).exit_code == 1


async def test_audit_entries_that_are_too_old_are_exported(
    clone_database: CloneDatabase, worker_id: str, tmp_path: Path
) -> None:
    urls = await clone_database("auth", f"auth_expiry_{worker_id}")
    where = {"auth_database_url": urls.application, "auth_migration_database_url": urls.migration}
    for _ in range(2):
        assert (await _run("create-admin", "--email", new_email(), password=PASSWORD, **where)).exit_code == 0
    database = Database(urls.migration, registry=CollectorRegistry())
    await database.open()
    sealer = Sealer(database, CollectorRegistry())
    await _query(urls.migration, "UPDATE audit_log SET at = now() - interval '70 days'")
    await sealer.seal()
    await database.close()
    expire = ("expire-audit", "--export", str(tmp_path))
    kept = await _run(*expire, **where)
    assert (kept.exit_code, kept.output) == (0, "nothing has expired\n")
    removed = await _run(*expire, **where, audit_retention_months="1")
    assert removed.output == f"exported and removed: {tmp_path / 'audit-auth-1-1.jsonl'}\n"
    assert (await _run("verify-audit", **where)).exit_code == 0
    assert (await _run("expire-audit", "--export", str(tmp_path / "nowhere"), **where)).exit_code == 2
    await _query(urls.migration, "UPDATE audit_log SET address = '192.0.2.1'")
    assert (await _run(*expire, **where)).exit_code == 1


async def test_keys_are_rotated_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "signing.json"
    for count in (1, 2):
        rotated = await _run("rotate-keys", auth_signing_keys_file=str(path))
        assert rotated.exit_code == 0
        assert rotated.output.startswith("added ")
        assert len(json.loads(path.read_text())["keys"]) == count
    missing = await _run("rotate-keys", auth_signing_keys_file=str(tmp_path / "nowhere" / "signing.json"))
    assert missing.exit_code == 2
    path.write_text("no keys")
    broken = await _run("rotate-keys", auth_signing_keys_file=str(path))
    assert broken.exit_code == 2
    assert path.read_text() == "no keys"


async def test_republish_announces_every_user(people: People, auth_database: DatabaseUrls) -> None:
    patient = await people.patient()
    count = "SELECT count(*) AS count FROM outbox WHERE aggregateid = $1 AND type = 'UserUpdated'"
    everybody = (await _query(auth_database.migration, "SELECT count(*) AS count FROM users"))[0]["count"]
    assert everybody > 0
    told = await _run("republish", auth_database_url=auth_database.application)
    assert (told.exit_code, told.output) == (0, f"announced: {everybody}\n")
    assert (await _query(auth_database.migration, count, patient.id))[0]["count"] == 1
    last = "SELECT payload->'user'->>'version' AS version FROM outbox WHERE aggregateid = $1 ORDER BY seq DESC LIMIT 1"
    assert (await _query(auth_database.migration, last, patient.id))[0]["version"] == "1"


@pytest.mark.parametrize(
    "command", ["serve", "migrate", "create-admin --email a@example.com", "rotate-keys", "republish", "verify-audit"]
)
async def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for name in list(os.environ):
        if name.startswith(("AUTH_", "REDIS_", "INTERNAL_")):
            monkeypatch.delenv(name)
    failed = await _run(*command.split())
    assert failed.exit_code == 2
    assert " is missing: expected " in failed.output


def _environment(settings: Settings, **others: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "REDIS_URL": settings.redis_url,
        "AUTH_TO_BOOKING_TOKEN": AUTH_TO_BOOKING,
        "BOOKING_TO_AUTH_TOKEN": BOOKING_TO_AUTH,
        "NOTIFICATION_TO_AUTH_TOKEN": NOTIFICATION_TO_AUTH,
        "AUTH_DATABASE_URL": settings.auth_database_url,
        "AUTH_SIGNING_KEYS_FILE": settings.auth_signing_keys_file,
        "AUTH_SECRET_KEY": settings.auth_secret_key,
        "ADDRESS_LIMITS": "false",
        "BOOKING_INTERNAL_URL": settings.booking_internal_url,
        "PORT": "0",
        "INTERNAL_PORT": "0",
        **others,
    }


async def test_the_service_serves_until_it_is_asked_to_stop(settings: Settings) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.auth", "serve", env=_environment(settings), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with without_hang():
        while (line := json.loads(await process.stdout.readline()))["event"] != "serving":
            pass
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{line['port']}") as client:
            while (await client.get("/api/health")).status_code != 200:
                await asyncio.sleep(0.05)
            assert (await client.get("/api/doctors")).status_code == 200
        process.send_signal(signal.SIGTERM)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert "Traceback" not in rest


async def test_the_service_does_not_start_without_signing_keys(settings: Settings, tmp_path: Path) -> None:
    environment = _environment(settings, AUTH_SIGNING_KEYS_FILE=str(tmp_path / "missing.json"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.auth", "serve", env=environment, stderr=subprocess.PIPE
    )
    _, message = await process.communicate()
    assert process.returncode == 2
    assert message.startswith(b"AUTH_SIGNING_KEYS_FILE")
    assert message.count(b"\n") == 1


def test_a_key_file_is_not_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "signing.json"
    rotate(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        rotate(path)
    assert path.read_bytes() == before
