"""Events that cannot be handled, and the end of a session."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts import streams as contracts
from services.contracts.enums import Role
from services.contracts.events import (
    MailRequested,
    SessionRevoked,
    UserState,
)
from services.notification.repository import Store
from tests.notification.notifying.telling import dead_letters, has_been_told, told
from tests.support.auth_stub import AuthStub
from tests.support.streams import Streams, appointment, entry


@pytest.mark.usefixtures("client")
async def test_poison_becomes_a_dead_letter_as_it_came_and_delays_no_neighbour(
    auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    await streams.tell(appointment(*pair))
    await streams.settled()
    good = appointment(*pair)
    ids = [uuid7() for _ in range(6)]
    poison = [
        entry(good, ids[0]) | {"payload": "{"},
        entry(good, ids[1]) | {"payload": '{"type":"AppointmentSwallowed"}'},
        entry(good, ids[2]) | {"payload": "x" * 1_000_000},
        entry(good, ids[3]) | {"payload": '{"type":"AppointmentCreated","appointmentId":7}'},
        entry(good, ids[4]) | {"version": "many", "$where": "1", "a.b": "2"},
    ]
    no_event_id = {"payload": "nothing else", "mark": str(ids[5])}
    for fields in (*poison, no_event_id):
        await streams.put(contracts.APPOINTMENTS, fields)
        await streams.tell(appointment(*pair))
    await has_been_told(store, 14, *pair)
    await streams.settled()
    letters = {letter["fields"]["id"]: letter for letter in await dead_letters(store, *ids)}
    assert [letters[str(event_id)]["fields"] for event_id in ids[:5]] == poison
    assert {letter["reason"] for letter in letters.values()} == {"undecodable"}
    assert {letter["stream"] for letter in letters.values()} == {"booking.appointments"}
    assert await store["dead_letters"].count_documents({"fields.mark": str(ids[5])}) == 1
    assert len(await told(store, *pair)) == 14


@pytest.mark.usefixtures("client")
async def test_an_event_about_somebody_whom_auth_does_not_know_becomes_a_dead_letter(
    auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    event_id = uuid7()
    await streams.tell(appointment(pair[0], auth.user(Role.DOCTOR)), event_id=event_id)
    await streams.tell(appointment(*pair))
    await has_been_told(store, 2, *pair)
    await streams.settled()
    (letter,) = await dead_letters(store, event_id)
    assert (letter["reason"], letter["error"].split(":")[0]) == ("failing", "UnknownUser")
    assert len(await told(store, *pair)) == 2


async def test_the_end_of_a_session_is_remembered_until_its_tokens_have_expired(
    client: httpx.AsyncClient, streams: Streams, store: Store
) -> None:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1200)
    ended = SessionRevoked(session_id=uuid7(), user_id=uuid7(), expires_at=expires_at)
    await streams.tell(ended, MailRequested(mail_id=uuid7()), ended)
    await streams.settled()
    assert await store["dead_letters"].count_documents({"fields.type": "MailRequested"}) == 0
    found = await store["revoked_sessions"].find_one({"_id": ended.session_id})
    assert found is not None
    assert found["expiresAt"] == expires_at
    index = (await store["revoked_sessions"].index_information())["revoked_session_expiry"]
    assert (index["key"], index["expireAfterSeconds"]) == ([("expiresAt", 1)], 0)
