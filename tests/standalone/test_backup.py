"""The commands of docs/operations.md, literally: back up during bookings, lose everything, restore, continue."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pymongo
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import AppointmentChange, decode_appointment_event
from services.standalone.databases import create_databases
from services.standalone.postgres import Postgres
from services.standalone.servers import Servers
from tests.support.deployment import Deployment, Stores
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
TOMORROW = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0) + timedelta(days=1)
PEOPLE = 5

Notified = Counter[tuple[UUID, UUID]]  # the number of notifications by event and recipient


def commands() -> tuple[str, str]:
    page = (ROOT / "docs/operations.md").read_text().split("## Backup and restore")[1]
    back_up, restore = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return back_up, restore


def run(script: str, stores: Stores, folder: Path) -> None:
    """Run `script` with the programs of the running PostgreSQL and of this environment on the PATH."""
    programs = f"{Postgres.programs()}:{Path(sys.executable).parent}"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "AUTH_DATABASE_URL": stores.auth.application,
        "AUTH_MIGRATION_DATABASE_URL": stores.auth.migration,
        "MONGODB_URL": stores.notification_mongodb_url,
        "BOOKING_DATABASE_URL": stores.booking.application,
        "BOOKING_MIGRATION_DATABASE_URL": stores.booking.migration,
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def snapshot(servers: Servers, source: Path, target: Path) -> None:
    """Copy the volume of a running MongoDB."""
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(servers.mongodb_url)
    client.admin.command("fsync", lock=True)
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("mongod.lock"))
    finally:
        client.admin.command("fsyncUnlock")
        client.close()


class Bookings:
    """Patients who book consecutive half hours, each with a doctor of their own."""

    def __init__(self, deployment: Deployment, patients: list[UUID], doctors: list[UUID]) -> None:
        self._headers = [{"Authorization": f"Bearer {deployment.token(patient, Role.PATIENT)}"} for patient in patients]
        self._doctors, self._url = doctors, deployment.processes["booking"][0].url
        self.acknowledged: list[UUID] = []

    async def book(self, slots: range, pause_seconds: float = 0) -> None:
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=15) as client:
            for slot in slots:
                at = (TOMORROW + slot * timedelta(minutes=30)).isoformat()
                for doctor, headers in zip(self._doctors, self._headers, strict=True):
                    body = {"doctorId": str(doctor), "dateTime": at}
                    answer = await client.post("/api/appointments", json=body, headers=headers)
                    assert answer.status_code == 201, answer.text
                    self.acknowledged.append(UUID(answer.json()["id"]))
                await asyncio.sleep(pause_seconds)


async def notified(stores: Stores) -> Notified:
    client: Any = pymongo.AsyncMongoClient(stores.mongodb_url, uuidRepresentation="standard")
    async with client:
        found = client["notification"]["notifications"].find({"channel": "IN_APP"})
        return Counter([(document["eventId"], document["recipientId"]) async for document in found])


async def expected(stores: Stores) -> Notified:
    connection = await asyncpg.connect(stores.booking.migration)
    rows = await connection.fetch("SELECT id, payload FROM outbox")
    await connection.close()
    found: Notified = Counter()
    for row in rows:
        event = decode_appointment_event(row["payload"])
        assert isinstance(event, AppointmentChange)
        found.update([(row["id"], event.patient_id), (row["id"], event.doctor_id)])
    return found


async def everyone_is_notified_once(stores: Stores, since: Notified) -> None:
    """Wait for every notification. Those in `since` must still exist, and none may exist twice.

    The notifications of lost bookings remain.
    """

    async def holds() -> bool:
        return (await expected(stores)).keys() <= (await notified(stores)).keys()

    await eventually(holds, every_seconds=0.5)
    found = await notified(stores)
    assert since.keys() <= found.keys()
    assert set(found.values()) == {1}


async def all_are_acknowledged(stores: Stores) -> None:
    """Wait until the relay has recorded that the consumers acknowledged all events written so far."""
    connection = await asyncpg.connect(stores.booking.migration)
    number = await connection.fetchval("SELECT count(*) FROM outbox")

    async def holds() -> bool:
        return bool(await connection.fetchval("SELECT acked_through >= $1 FROM relay_state", number))

    await eventually(holds, every_seconds=0.5)
    await connection.close()


async def tokens_are_accepted(deployment: Deployment) -> None:
    """Wait until booking has fetched the keys of auth, which may start later."""
    headers = {"Authorization": f"Bearer {deployment.token(uuid7(), Role.PATIENT)}"}
    async with httpx.AsyncClient(base_url=deployment.processes["booking"][0].url, trust_env=False) as client:

        async def holds() -> bool:
            return (await client.get("/api/appointments", headers=headers)).status_code == 200

        await eventually(holds)


@asynccontextmanager
async def deployed(folder: Path, stores: Stores) -> AsyncIterator[Deployment]:
    deployment = Deployment(folder, stores)
    try:
        for service in ("auth", "booking", "notification"):
            deployment.launch(service)
        await deployment.ready()
        await tokens_are_accepted(deployment)
        yield deployment
    finally:
        await asyncio.to_thread(deployment.stop)


async def test_lost_data_is_restored_and_every_recipient_is_notified_once(tmp_path: Path) -> None:
    back_up, restore = commands()
    before, after = tmp_path / "before", tmp_path / "after"
    after.mkdir()
    with Servers(before, durable=False) as servers:
        stores = await Stores.migrated(
            postgres_url=servers.postgres_url,
            redis_url=servers.redis_url,
            mongodb_url=servers.mongodb_url,
            kept=servers.kept,
        )
        async with deployed(tmp_path, stores) as deployment:
            patients, doctors = [[uuid7() for _ in range(PEOPLE)] for _ in range(2)]
            await deployment.register(Role.PATIENT, patients)
            await deployment.register(Role.DOCTOR, doctors)
            bookings = Bookings(deployment, patients, doctors)
            await bookings.book(range(4))
            await everyone_is_notified_once(stores, Counter())
            in_background = asyncio.create_task(bookings.book(range(4, 40), pause_seconds=0.2))
            await asyncio.to_thread(snapshot, servers, before / "mongodb", after / "mongodb")
            known = await notified(stores)
            await bookings.book(range(200, 203))
            in_the_dump = list(bookings.acknowledged)
            await all_are_acknowledged(stores)  # so that the relay has no reason to send them again
            await asyncio.to_thread(run, back_up, stores, tmp_path)
            assert not in_background.done()
            await in_background
            await bookings.book(range(210, 212))  # these are lost
    shutil.copy(before / "secrets.json", after)
    shutil.rmtree(before)

    with Servers(after, durable=False) as servers:
        databases = await create_databases(servers.postgres_url, servers.kept)
        stores = Stores(servers.redis_url, servers.mongodb_url, databases["auth"], databases["booking"], servers.kept)
        await asyncio.to_thread(run, restore, stores, tmp_path)
        async with deployed(tmp_path, stores) as deployment:
            connection = await asyncpg.connect(stores.booking.migration)
            restored = {row["id"] for row in await connection.fetch("SELECT id FROM appointments")}
            await connection.close()
            assert set(in_the_dump) <= restored
            await everyone_is_notified_once(stores, known)
            bookings = Bookings(deployment, patients, doctors)
            await bookings.book(range(300, 302))
            await everyone_is_notified_once(stores, known)
