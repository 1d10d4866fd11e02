"""What the other services may ask on the internal port."""

from uuid import uuid4

import httpx
import msgspec

from services.contracts.events import UserState
from tests.auth.internal_tokens import AUTH_TO_BOOKING, BOOKING_TO_AUTH, NOTIFICATION_TO_AUTH
from tests.auth.people import People


async def test_the_other_services_read_one_user(internal: httpx.AsyncClient, people: People) -> None:
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


async def test_each_internal_route_accepts_only_its_callers(internal: httpx.AsyncClient, people: People) -> None:
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


async def test_internal_routes_are_not_on_the_public_port(client: httpx.AsyncClient, people: People) -> None:
    doctor = await people.pending_doctor()
    answer = await client.get(f"/internal/users/{doctor.id}", headers={"Authorization": f"Bearer {BOOKING_TO_AUTH}"})
    assert answer.status_code == 404
