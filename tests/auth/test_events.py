"""The events of changes, from the outbox to the stream."""

import asyncio
from typing import Any

import asyncpg
import httpx
import msgspec
from redis.asyncio import Redis

from services.contracts.events import UserRegistered, decode_user_event
from services.contracts.streams import USERS
from tests.auth.people import People, doctor_form, patient_form
from tests.support.canary import called
from tests.support.waiting import without_hang


async def _events(owner: asyncpg.Connection, user_id: str) -> list[dict[str, Any]]:
    rows = await owner.fetch(
        "SELECT type, aggregatetype, version, payload::text AS payload FROM outbox WHERE aggregateid = $1 ORDER BY seq",
        user_id,
    )
    return [{**row, "payload": msgspec.json.decode(row["payload"])} for row in rows]


async def test_every_change_writes_one_event_with_its_version(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    doctor, admin = await people.pending_doctor(phone="+4930123456"), await people.admin()
    path = f"/api/doctors/{doctor.id}"
    await client.post(f"{path}/approve", headers=admin.headers)
    await client.patch(path, json={"phone": None}, headers=doctor.headers)
    await client.patch(path, json={"phone": "refused"}, headers=doctor.headers)
    await client.post("/api/doctors/signup", json=doctor_form(email=doctor.email))  # refused
    await client.post(f"{path}/suspend", params={"onConflict": "cancel"}, headers=admin.headers)
    events = await _events(owner, doctor.id)
    assert [(event["type"], event["version"]) for event in events] == [
        ("UserRegistered", 1),
        ("UserApproved", 2),
        ("UserUpdated", 3),
        ("UserSuspended", 4),
    ]
    assert {event["aggregatetype"] for event in events} == {"user"}
    state = {
        "id": doctor.id,
        "fullName": called("Ada"),
        "role": "DOCTOR",
        "status": "PENDING",
        "timeZone": "Europe/Berlin",
        "locale": "en",
        "email": doctor.email,
        "phone": None,
        "speciality": None,
        "version": 1,
        "erased": False,
        "emailVerified": False,
        "timeZoneChosen": True,
    }
    assert events[0]["payload"] == {"type": "UserRegistered", "user": state}
    suspended = {**state, "status": "SUSPENDED", "version": 4}
    assert events[3]["payload"] == {"type": "UserSuspended", "user": suspended, "onConflict": "cancel"}


async def test_a_request_that_changes_nothing_writes_no_event(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    doctor, admin = await people.doctor(consultationFee="99.50"), await people.admin()
    path = f"/api/doctors/{doctor.id}"
    before = await _events(owner, doctor.id)
    await client.post(f"{path}/approve", headers=admin.headers)
    for body in ({}, {"fullname": called("Ada")}, {"consultationFee": "99.5"}):
        assert (await client.patch(path, json=body, headers=doctor.headers)).status_code == 200
    assert await _events(owner, doctor.id) == before


async def test_a_suspension_keeps_appointments_by_default(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    await client.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)
    assert (await _events(owner, doctor.id))[-1]["payload"]["onConflict"] == "keep"


async def test_concurrent_changes_get_consecutive_versions(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await asyncio.gather(
        *(
            client.patch(f"/api/patients/{patient.id}", json={"fullname": f"Bo {n}"}, headers=patient.headers)
            for n in range(5)
        )
    )
    assert [event["version"] for event in await _events(owner, patient.id)] == [1, 2, 3, 4, 5, 6]


async def test_events_reach_the_stream(client: httpx.AsyncClient, redis_url: str) -> None:
    redis: Redis = Redis.from_url(redis_url)
    patient = (await client.post("/api/patients/signup", json=patient_form())).json()
    try:
        async with without_hang():
            while True:
                entries: Any = await redis.xrevrange(USERS.name, count=50)
                found = [fields for _, fields in entries if fields[b"aggregateid"] == patient["id"].encode()]
                if found:
                    break
                await asyncio.sleep(0.01)
        answer: Any = await redis.xinfo_groups(USERS.name)
        groups = {group["name"].decode() for group in answer}
    finally:
        await redis.aclose()
    registered = decode_user_event(found[0][b"payload"])
    assert isinstance(registered, UserRegistered)
    assert registered.user.email == patient["email"]
    assert groups == set(USERS.groups)
