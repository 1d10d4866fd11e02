"""`python -m services.booking`"""

import os
import subprocess
import sys

from typer.testing import CliRunner

from services.booking.cli import app
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, book, environment, is_told
from tests.deployment import served
from tests.notification.auth_stub import AuthStub
from tests.notification.streams import eventually


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOOKING_", "REDIS_"))}
    command = [sys.executable, "-m", "services.booking", *arguments]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)


def test_a_missing_setting_stops_the_start_with_its_name() -> None:
    for command, name in (
        ("serve", "REDIS_URL"),
        ("migrate", "BOOKING_DATABASE_URL"),
        ("recheck-time-zones", "BOOKING_DATABASE_URL"),
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


async def test_a_served_booking_reaches_the_stream_and_no_log(
    booking_database: DatabaseUrls, redis_url: str, auth: AuthStub, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    async with served("booking", environment(booking_database.application, redis_url, auth)) as booking:
        visit = await book(booking.client, patient, doctor, notes="Confidential")

        async def told() -> bool:
            return await is_told(redis_url, visit)

        await eventually(told)
        log = booking.process.output
    assert '"route":"/api/appointments"' in log
    for secret in ("Confidential", "Example", patient.headers["Authorization"].split()[1]):
        assert secret not in log
