import asyncio
from typing import Any
from uuid import uuid4

import httpx
import msgspec
from redis.asyncio import Redis

from services.contracts.events import UserRegistered, UserState, decode_user_event
from services.contracts.streams import USERS
from tests.auth.conftest import AUTH_TO_BOOKING, BOOKING_TO_AUTH, NOTIFICATION_TO_AUTH
from tests.auth.people import People, doctor_form, patient_form
from tests.support.canary import called


async def _events(owner: Any, user_id: str) -> list[dict[str, Any]]:
    rows = await owner.fetch(
        "SELECT type, aggregatetype, version, payload::text AS payload FROM outbox WHERE aggregateid = $1 ORDER BY seq",
        user_id,
    )
    return [{**row, "payload": msgspec.json.decode(row["payload"])} for row in rows]


async def test_every_change_writes_one_event_with_its_version(
    client: httpx.AsyncClient, people: People, owner: Any
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
    }
    assert events[0]["payload"] == {"type": "UserRegistered", "user": state}
    suspended = {**state, "status": "SUSPENDED", "version": 4}
    assert events[3]["payload"] == {"type": "UserSuspended", "user": suspended, "onConflict": "cancel"}


async def test_what_changes_nothing_is_not_told(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    doctor, admin = await people.doctor(consultationFee="99.50"), await people.admin()
    path = f"/api/doctors/{doctor.id}"
    before = await _events(owner, doctor.id)
    await client.post(f"{path}/approve", headers=admin.headers)
    for body in ({}, {"fullname": called("Ada")}, {"consultationFee": "99.5"}):
        assert (await client.patch(path, json=body, headers=doctor.headers)).status_code == 200
    assert await _events(owner, doctor.id) == before


async def test_a_suspension_without_a_word_about_visits_keeps_them(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    await client.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)
    assert (await _events(owner, doctor.id))[-1]["payload"]["onConflict"] == "keep"


async def test_simultaneous_changes_have_versions_of_their_own(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    await asyncio.gather(
        *(
            client.patch(f"/api/patients/{patient.id}", json={"fullname": f"Bo {n}"}, headers=patient.headers)
            for n in range(5)
        )
    )
    assert [event["version"] for event in await _events(owner, patient.id)] == [1, 2, 3, 4, 5, 6]


async def test_events_reach_the_stream_within_a_second(client: httpx.AsyncClient, redis_url: str) -> None:
    redis: Redis = Redis.from_url(redis_url)
    patient = (await client.post("/api/patients/signup", json=patient_form())).json()
    try:
        async with asyncio.timeout(1):
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


async def test_neighbours_ask_for_one_user(internal: httpx.AsyncClient, people: People) -> None:
    doctor = await people.pending_doctor()
    path = f"/internal/users/{doctor.id}"
    trusted = {"Authorization": f"Bearer {BOOKING_TO_AUTH}"}
    answer = await internal.get(path, headers=trusted)
    assert answer.status_code == 200
    state = msgspec.json.decode(answer.content, type=UserState)
    assert (str(state.id), state.email, state.version, state.email_verified) == (doctor.id, doctor.email, 1, False)
    assert (await internal.get(f"/internal/users/{uuid4()}", headers=trusted)).status_code == 404
    for headers in ({}, doctor.headers, {"Authorization": "Bearer x"}):
        assert (await internal.get(path, headers=headers)).status_code == 401


async def test_only_notification_may_ask_for_a_mail_and_nobody_by_the_token_of_auths_own_calls(
    internal: httpx.AsyncClient, people: People
) -> None:
    user, mail = f"/internal/users/{(await people.pending_doctor()).id}", f"/internal/mails/{uuid4()}"
    answers = {
        (path, token): (await internal.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
        for path in (user, mail)
        for token in (BOOKING_TO_AUTH, NOTIFICATION_TO_AUTH, AUTH_TO_BOOKING)
    }
    assert answers == {
        (user, BOOKING_TO_AUTH): 200,
        (user, NOTIFICATION_TO_AUTH): 200,
        (user, AUTH_TO_BOOKING): 401,
        (mail, BOOKING_TO_AUTH): 401,
        (mail, NOTIFICATION_TO_AUTH): 404,
        (mail, AUTH_TO_BOOKING): 401,
    }


async def test_the_internal_address_is_not_on_the_public_port(client: httpx.AsyncClient, people: People) -> None:
    doctor = await people.pending_doctor()
    answer = await client.get(f"/internal/users/{doctor.id}", headers={"Authorization": f"Bearer {BOOKING_TO_AUTH}"})
    assert answer.status_code == 404


async def test_the_documents_of_all_services_are_listed(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    for service in ("auth", "booking", "notification"):
        assert f'href="/api/docs/{service}"' in page.text
    assert "http" not in page.text.replace("http-equiv", "")


async def test_the_document_describes_every_operation(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/auth/openapi.json")).json()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.startswith("/api/health")
    ]
    assert len(operations) == 30
    for name, operation in operations:
        assert operation["summary"], name
        assert operation["description"], name
        for status, answer in operation["responses"].items():
            kinds = set(answer.get("content", {}))
            expected = {"application/problem+json"} if int(status) >= 400 else {"application/json"}
            assert kinds == (set() if status == "204" else expected), name
