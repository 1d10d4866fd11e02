"""The projection of users: auth's events, and the look-up of users that no event has brought yet."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.booking.models.messages import EXPIRING
from services.contracts.events import (
    AppointmentCancelled,
    MailRequested,
    SessionRevoked,
    UserRegistered,
    UserUpdated,
    decode_appointment_event,
)
from services.kit.metrics import create_registry
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus, approved, suspended
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    events_of,
    free_time,
    get,
    history,
    post,
    repeat,
    request_for,
    wire,
)
from tests.support.auth_stub import AuthStub
from tests.support.canary import called
from tests.support.issuer import Issuer
from tests.support.streams import entry, signed


async def known(database: asyncpg.Connection, person: Person) -> tuple[str, str, int] | None:
    row = await database.fetchrow("SELECT status, full_name, version FROM users WHERE id = $1", person.id)
    return tuple(row) if row else None


async def test_events_bring_the_projection_up_to_date(clinic: Clinic, bus: Bus, database: asyncpg.Connection) -> None:
    person = clinic.patient()
    await bus.tell(UserRegistered(user=person.state))
    assert await known(database, person) == ("ACTIVE", called("Bo"), 1)
    await bus.tell(UserUpdated(user=replace(person.state, full_name="Bo Renamed", version=3)))
    assert await known(database, person) == ("ACTIVE", "Bo Renamed", 3)


async def test_an_event_that_comes_late_or_again_changes_nothing(
    clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    person = clinic.patient()
    newest = UserUpdated(user=replace(person.state, full_name="Newest", version=5))
    await bus.tell(newest, UserRegistered(user=person.state), newest)
    assert await known(database, person) == ("ACTIVE", "Newest", 5)


async def test_auth_is_asked_once_about_somebody_new(
    client: httpx.AsyncClient, clinic: Clinic, auth: AuthStub, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(2):
        await book(client, patient, doctor)
    assert auth.asked.count(doctor.id) == auth.asked.count(patient.id) == 1
    assert await known(database, doctor) == ("ACTIVE", called("Ada"), 1)


async def test_without_auth_whom_we_know_books_and_whom_we_do_not_is_told_to_wait(
    client: httpx.AsyncClient, clinic: Clinic, auth: AuthStub
) -> None:
    doctor, patient, stranger = clinic.doctor(), clinic.patient(), clinic.patient()
    await book(client, patient, doctor)
    auth.up = False
    try:
        await book(client, patient, doctor)
        answer = await post(client, stranger, request_for(doctor))
    finally:
        auth.up = True
    assert_refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    assert (await post(client, stranger, request_for(doctor))).status_code == 201


async def test_a_suspension_takes_effect_on_the_next_write(client: httpx.AsyncClient, clinic: Clinic, bus: Bus) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    await bus.tell(suspended(patient.state, 2))
    assert_refused(await post(client, patient, request_for(doctor)), 403, "account_suspended")
    assert_refused(await change(client, patient, appointment, status="CANCELLED"), 403, "account_suspended")
    assert (await get(client, patient, appointment))["status"] == "PENDING"


async def test_a_suspended_doctors_appointments_to_come_are_cancelled(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointments = [await book(client, patient, doctor) for _ in range(3)]
    confirmed = (await change(client, doctor, appointments[1], status="CONFIRMED")).json()
    cancelled = (await change(client, doctor, appointments[2], status="CANCELLED", reason="Mine")).json()
    event = suspended(doctor.state, 2)
    await bus.tell(event, event)
    for appointment, version in ((appointments[0], 2), (confirmed, 3)):
        after = await get(client, patient, appointment)
        assert (after["status"], after["version"]) == ("CANCELLED", version)
        assert after["cancellationReason"] == "doctor_unavailable"
        entry = (await history(client, patient, appointment))[-1]
        assert (entry["actorId"], entry["actorRole"], entry["reason"]) == (None, "SYSTEM", "doctor_unavailable")
        assert (await events_of(database, appointment))[-1] == ("AppointmentCancelled", version)
    assert await get(client, patient, cancelled) == cancelled
    payload = await database.fetchval(
        "SELECT payload::text FROM outbox WHERE aggregateid = $1 AND type = 'AppointmentCancelled'",
        appointments[0]["id"],
    )
    told = decode_appointment_event(payload)
    assert isinstance(told, AppointmentCancelled)
    assert (told.reason_code, told.actor_id) == ("doctor_unavailable", None)


async def test_a_suspended_doctors_appointments_stay_where_that_was_the_wish(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    await bus.tell(suspended(doctor.state, 2, "keep"))
    assert await get(client, patient, appointment) == appointment
    assert_refused(await post(client, patient, request_for(doctor)), 409, "doctor_unavailable")


async def test_a_suspension_that_is_over_cancels_nothing_when_its_event_comes_again(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(client, patient, doctor)
    await bus.tell(suspended(doctor.state, 2), approved(doctor.state, 3))
    appointment = await book(client, patient, doctor)
    await bus.tell(suspended(doctor.state, 2))
    assert await get(client, patient, appointment) == appointment
    await bus.tell(suspended(doctor.state, 4, "keep"), suspended(doctor.state, 2))
    assert await get(client, patient, appointment) == appointment


async def test_more_appointments_than_one_batch_are_cancelled(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, at = clinic.doctor(), free_time()
    first = await book(client, clinic.patient(), doctor, at)
    await repeat(database, first, 149, every=timedelta(hours=1))
    await bus.tell(suspended(doctor.state, 2))
    counts = "SELECT status, version, count(*) FROM appointments WHERE doctor_id = $1 GROUP BY 1, 2"
    assert [tuple(row) for row in await database.fetch(counts, doctor.id)] == [("CANCELLED", 2, 150)]


async def test_what_cannot_be_read_is_kept_aside(bus: Bus, clinic: Clinic, database: asyncpg.Connection) -> None:
    person = clinic.patient()
    good = entry(UserRegistered(user=person.state))
    await bus.put(good | {"payload": "{"})
    await bus.put(good | {"payload": '{"type": "UserPromoted"}'})
    await bus.tell(UserRegistered(user=person.state))
    assert await known(database, person)
    letters = await database.fetch("SELECT * FROM dead_letters WHERE fields->>'aggregateid' = $1", str(person.id))
    assert [(letter["stream"], letter["reason"]) for letter in letters] == [("auth.users", "undecodable")] * 2


async def test_an_event_that_auth_did_not_sign_has_no_effect(
    bus: Bus, clinic: Clinic, database: asyncpg.Connection
) -> None:
    person = clinic.patient()
    await bus.tell(UserRegistered(user=person.state))
    forged = entry(suspended(person.state, 9))
    await bus.put_unsigned(forged)
    await bus.put_unsigned(signed(forged, Issuer(bus.issuer.key_id)))
    assert await known(database, person) == ("ACTIVE", called("Bo"), 1)
    reasons = "SELECT reason FROM dead_letters WHERE fields->>'id' = $1"
    assert [row["reason"] for row in await database.fetch(reasons, forged["id"])] == ["forged", "forged"]


def _signed_in_again(auth: AuthStub, person: Person) -> tuple[Person, SessionRevoked]:
    """Return the person with a new session, and the event that ends that session."""
    session = uuid7()
    headers = {"Authorization": f"Bearer {auth.issuer.token(person.id, person.state.role, sid=str(session))}"}
    ended = SessionRevoked(
        session_id=session, user_id=person.id, expires_at=datetime.now(UTC) + timedelta(seconds=1200)
    )
    return person._replace(headers=headers), ended


async def test_an_ended_session_reads_and_does_not_write(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, auth: AuthStub
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    elsewhere, ended = _signed_in_again(auth, patient)
    appointment = await book(client, elsewhere, doctor)
    await bus.tell(ended, MailRequested(mail_id=uuid7()), ended)
    assert_refused(await post(client, elsewhere, request_for(doctor)), 401, "session_revoked")
    for update in ({"status": "CANCELLED"}, {"notes": "x"}, {"dateTime": wire(free_time())}):
        assert_refused(await change(client, elsewhere, appointment, **update), 401, "session_revoked")
    assert await get(client, elsewhere, appointment) == appointment
    assert (await change(client, patient, appointment, notes="From the other session")).status_code == 200


async def test_an_ended_session_is_forgotten_when_its_tokens_have_expired(
    clinic: Clinic, bus: Bus, auth: AuthStub, database: asyncpg.Connection, booking_database: DatabaseUrls
) -> None:
    ended = [_signed_in_again(auth, clinic.patient())[1] for _ in range(2)]
    expired = replace(ended[0], expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await bus.tell(expired, ended[1])
    store = Database(booking_database.application, registry=create_registry())
    await store.open()
    await CleanUp(store, create_registry(), *EXPIRING).work(asyncio.Event())
    await store.close()
    kept = await database.fetch(
        "SELECT session_id FROM revoked_sessions WHERE session_id = ANY($1)", [one.session_id for one in ended]
    )
    assert [row["session_id"] for row in kept] == [ended[1].session_id]
    assert await database.fetchval("SELECT count(*) FROM dead_letters WHERE fields->>'type' = 'MailRequested'") == 0
