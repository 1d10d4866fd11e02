"""The checks do not complain about a scenario without a defect, and each complains about the defects it stands for."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.tasks import Supervisor
from tests.faults.checks.answers import BUGS
from tests.faults.ledger import Verdict
from tests.faults.scenario import STATE, Scenario
from tests.support.waiting import eventually


async def test_no_check_complains_about_a_scenario_without_a_defect(scenario: Scenario) -> None:
    assert await scenario.complaints() == set()


async def the_appointment_is_missing(scenario: Scenario) -> None:
    await scenario.booking.execute("DELETE FROM appointment_history; DELETE FROM appointments; DELETE FROM outbox")
    await scenario.mongodb.client.drop_database(scenario.mongodb.name)


async def another_time_is_stored(scenario: Scenario) -> None:
    other = {**STATE, "dateTime": "2030-01-07T10:00:00Z"}
    await scenario.booking.execute("UPDATE appointment_history SET changes = $1", other)


async def the_booking_was_refused_without_a_reason(scenario: Scenario) -> None:
    refusal = scenario.answer(status=409, body='{"code": "slot_taken"}', content_type="application/problem+json")
    del scenario.entries[1:]
    scenario.entries.extend([refusal, Verdict(operation=0, at=1.1, outcome="refused")])


async def the_doctor_has_two_appointments(scenario: Scenario) -> None:
    await scenario.booking.execute("ALTER TABLE appointments DROP CONSTRAINT appointment_doctor_no_overlap")
    await scenario.add_appointment(minutes_later=15, patient=uuid7())


async def the_patient_has_two_appointments(scenario: Scenario) -> None:
    await scenario.booking.execute("ALTER TABLE appointments DROP CONSTRAINT appointment_patient_no_overlap")
    other = await scenario.add_appointment(minutes_later=60)
    await scenario.booking.execute(
        """
        UPDATE appointments SET doctor_id = $2, during = taken.during, blocked = taken.blocked
        FROM (SELECT during, blocked FROM appointments WHERE id = $3) AS taken WHERE id = $1
        """,
        other,
        uuid7(),
        scenario.appointment,
    )


async def a_key_has_two_appointments(scenario: Scenario) -> None:
    await scenario.add_appointment(minutes_later=60)


async def a_key_has_two_answers(scenario: Scenario) -> None:
    scenario.entries.insert(2, scenario.answer(body=scenario.answer().body.replace("key-1", "key 1")))


async def a_version_has_no_event(scenario: Scenario) -> None:
    await scenario.booking.execute("DELETE FROM outbox")


async def a_version_has_two_events(scenario: Scenario) -> None:
    await scenario.booking.execute(
        """
        INSERT INTO outbox (id, aggregatetype, aggregateid, type, version, payload, stream_seq)
        SELECT gen_random_uuid(), aggregatetype, aggregateid, type, version, payload, 2 FROM outbox
        """
    )


async def a_version_has_no_history(scenario: Scenario) -> None:
    await scenario.booking.execute("DELETE FROM appointment_history")


async def the_doctor_was_not_notified(scenario: Scenario) -> None:
    await scenario.mongodb["notifications"].delete_one({"recipientId": scenario.doctor})


async def the_patient_was_notified_twice(scenario: Scenario) -> None:
    await scenario.notify(scenario.event, scenario.patient)


async def a_notification_has_no_event(scenario: Scenario) -> None:
    await scenario.notify(uuid7(), scenario.patient)


async def a_projection_is_behind(scenario: Scenario) -> None:
    await scenario.mongodb["appointments"].update_one({}, {"$set": {"version": 0}})


async def a_user_is_unknown_to_auth(scenario: Scenario) -> None:
    await scenario.booking.execute(
        "INSERT INTO users (id, role, status, full_name, time_zone, version)"
        " VALUES ($1, 'PATIENT', 'ACTIVE', 'Bo', 'UTC', 1)",
        scenario.patient,
    )


async def an_event_is_unread(scenario: Scenario) -> None:
    await scenario.redis.xadd(APPOINTMENTS.name, {"id": "x"}, id="1-0")


async def an_event_is_not_acknowledged(scenario: Scenario) -> None:
    await an_event_is_unread(scenario)
    await scenario.redis.xreadgroup("notification", "member", {APPOINTMENTS.name: ">"})


async def a_group_is_missing(scenario: Scenario) -> None:
    await scenario.redis.xgroup_destroy(USERS.name, "booking")


async def a_stream_is_missing(scenario: Scenario) -> None:
    await scenario.redis.delete(APPOINTMENTS.name)


async def an_event_is_unpublished(scenario: Scenario) -> None:
    await scenario.booking.execute("UPDATE outbox SET stream_seq = NULL")


async def notification_has_a_dead_letter(scenario: Scenario) -> None:
    await scenario.mongodb["dead_letters"].insert_one({"stream": "s", "entryId": "1-0", "error": "e"})


async def booking_has_a_dead_letter(scenario: Scenario) -> None:
    await scenario.booking.execute(
        'INSERT INTO dead_letters (id, stream, "group", entry_id, reason, error, fields)'
        " VALUES (gen_random_uuid(), 's', 'g', '1-0', 'failing', 'e', '{}')"
    )


async def an_email_is_unsent(scenario: Scenario) -> None:
    await scenario.notify(scenario.event, scenario.patient, "EMAIL", status="PENDING")


async def a_client_saw_a_500(scenario: Scenario) -> None:
    scenario.entries.insert(1, scenario.answer(status=500, body='{"code": "internal_error"}'))


async def a_client_saw_an_html_page(scenario: Scenario) -> None:
    page = scenario.answer(status=503, body="<html>", content_type="text/html", retry_after="1")
    scenario.entries.insert(1, page)


async def a_503_had_no_retry_after(scenario: Scenario) -> None:
    body = '{"code": "unavailable"}'
    scenario.entries.insert(1, scenario.answer(status=503, body=body, content_type="application/problem+json"))


async def a_client_got_no_answer(scenario: Scenario) -> None:
    scenario.entries.insert(1, scenario.answer(status=0, body="", error="connection lost"))


async def a_log_has_a_traceback(scenario: Scenario) -> None:
    scenario.logs["booking-0"] = '{"exception": "Traceback (most recent call last):\\n  File ..."}'


async def a_background_task_died(scenario: Scenario) -> None:
    scenario.logs["booking-0"] = '{"event": "background task died", "task": "relay"}'


_DEFECTS: list[tuple[str, Callable[[Scenario], Awaitable[None]]]] = [
    ("C1", the_appointment_is_missing),
    ("C1", another_time_is_stored),
    ("C1", the_booking_was_refused_without_a_reason),
    ("C2", the_doctor_has_two_appointments),
    ("C2", the_patient_has_two_appointments),
    ("C3", a_key_has_two_appointments),
    ("C3", a_key_has_two_answers),
    ("C4", a_version_has_no_event),
    ("C4", a_version_has_two_events),
    ("C4", a_version_has_no_history),
    ("C5", the_doctor_was_not_notified),
    ("C5", the_patient_was_notified_twice),
    ("C6", a_notification_has_no_event),
    ("C7", a_projection_is_behind),
    ("C7", a_user_is_unknown_to_auth),
    ("C8", an_event_is_unread),
    ("C8", an_event_is_not_acknowledged),
    ("C8", a_group_is_missing),
    ("C8", a_stream_is_missing),
    ("C8", an_event_is_unpublished),
    ("C8", notification_has_a_dead_letter),
    ("C8", booking_has_a_dead_letter),
    ("C8", an_email_is_unsent),
    ("C9", a_client_saw_a_500),
    ("C9", a_client_saw_an_html_page),
    ("C9", a_503_had_no_retry_after),
    ("C9", a_client_got_no_answer),
    ("C10", a_log_has_a_traceback),
    ("C10", a_background_task_died),
]


@pytest.mark.parametrize(("name", "cause"), _DEFECTS, ids=lambda value: getattr(value, "__name__", value))
async def test_a_check_complains_about_a_defect(
    scenario: Scenario, name: str, cause: Callable[[Scenario], Awaitable[None]]
) -> None:
    await cause(scenario)
    assert name in await scenario.complaints()


async def test_the_log_lines_of_a_bug_are_those_that_the_kit_writes() -> None:
    async def dies(_: asyncio.Event) -> None:
        raise RuntimeError

    async def returns(_: asyncio.Event) -> None: ...

    supervisor = Supervisor(CollectorRegistry())
    supervisor.add("dies", dies)
    supervisor.add("returns", returns)
    with structlog.testing.capture_logs() as lines:
        supervisor.start()
        await eventually(lambda: {line["task"] for line in lines} == {"dies", "returns"})
        await supervisor.stop()
    assert {line["event"] for line in lines} == set(BUGS[1:])
