"""`python -m services.booking`"""

import os
import subprocess

import asyncpg
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from services.booking.cli import app
from services.booking.dead_letters.repository import DeadLetterRepository
from services.contracts.events import UserRegistered
from services.kit.postgres.database import Database
from services.kit.streams.events import DeadLetter
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, book, environment, is_in_stream
from tests.support.auth_stub import AuthStub
from tests.support.process import served
from tests.support.program import completed
from tests.support.streams import entry
from tests.support.waiting import eventually


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOOKING_", "REDIS_"))}
    return completed("services.booking", *arguments, environment=environment | variables)


def test_a_missing_setting_stops_the_start_with_its_name() -> None:
    for command, name in (
        ("serve", "REDIS_URL"),
        ("migrate", "BOOKING_DATABASE_URL"),
        ("recheck-time-zones", "BOOKING_DATABASE_URL"),
        ("dead-letters", "BOOKING_DATABASE_URL"),
        ("replay", "BOOKING_DATABASE_URL"),
    ):
        result = CliRunner(env=dict.fromkeys(("REDIS_URL", "BOOKING_DATABASE_URL"), None)).invoke(app, [command])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"{name} is missing")


async def test_migrate_brings_a_database_up_to_date(booking_database: DatabaseUrls) -> None:
    urls = {
        "BOOKING_DATABASE_URL": booking_database.application,
        "BOOKING_MIGRATION_DATABASE_URL": booking_database.migration,
    }
    result = run("migrate", **urls)
    assert (result.returncode, result.stdout) == (0, "nothing to apply\n"), result.stderr


async def test_dead_letters_are_listed_and_replayed(
    booking_database: DatabaseUrls, database: asyncpg.Connection, clinic: Clinic
) -> None:
    url = {"BOOKING_DATABASE_URL": booking_database.application}
    mended, broken, forged = clinic.patient(), clinic.patient(), clinic.patient()
    kept = DeadLetterRepository(Database(booking_database.application, registry=CollectorRegistry()))
    await kept._database.open()
    for person, change in ((mended, {}), (broken, {"payload": "{"}), (forged, {})):
        letter = DeadLetter(
            stream="auth.users",
            group="booking",
            entry_id="7-0",
            reason="forged" if person is forged else "failing",
            error="ValueError: no such zone",
            fields=entry(UserRegistered(user=person.state)) | change,
        )
        await kept.add(letter)
        await kept.add(letter)
    await kept._database.close()
    ids = {
        row["user"]: str(row["id"])
        for row in await database.fetch("""SELECT id, fields->>'aggregateid' AS "user" FROM dead_letters""")
    }
    query = "SELECT count(*) FROM audit_log WHERE action = 'dead_letter.replayed' AND target_id = $1"
    assert await database.fetchval(query, ids[str(mended.id)]) == 0
    listed = [line for line in run("dead-letters", **url).stdout.splitlines() if " auth.users 7-0 " in line]
    assert [line.split()[0] for line in listed] == [ids[str(person.id)] for person in (mended, broken, forged)]

    replayed = run("replay", ids[str(mended.id)], **url)
    assert (replayed.returncode, replayed.stdout) == (0, "replayed: 1, failed again: 0\n")
    assert await database.fetchval(query, ids[str(mended.id)]) == 1
    assert await database.fetchval("SELECT full_name FROM users WHERE id = $1", mended.id) == mended.state.full_name
    failed = run("replay", ids[str(mended.id)], ids[str(broken.id)], ids[str(forged.id)], **url)
    assert failed.returncode == 1
    assert f"{ids[str(mended.id)]} failed again: no such dead letter\n" in failed.stdout
    assert f"{ids[str(broken.id)]} failed again: DecodeError: " in failed.stdout
    assert f"{ids[str(forged.id)]} failed again: its signature does not show that auth wrote it\n" in failed.stdout
    assert await database.fetchval("SELECT count(*) FROM users WHERE id = $1", forged.id) == 0
    left = await database.fetch("SELECT id FROM dead_letters WHERE id = ANY($1)", list(ids.values()))
    assert ids[str(broken.id)] in {str(row["id"]) for row in left}
    assert ids[str(mended.id)] not in {str(row["id"]) for row in left}


async def test_a_served_booking_reaches_the_stream_and_no_log(
    booking_database: DatabaseUrls, redis_url: str, auth: AuthStub, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    async with served("booking", environment(booking_database.application, redis_url, auth)) as booking:
        appointment = await book(booking.client, patient, doctor, notes="Confidential")

        async def told() -> bool:
            return await is_in_stream(redis_url, appointment)

        await eventually(told)
        log = booking.process.output
    assert '"route":"/api/appointments"' in log
    for secret in ("Confidential", "Example", patient.headers["Authorization"].split()[1]):
        assert secret not in log
