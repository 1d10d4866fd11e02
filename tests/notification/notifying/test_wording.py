"""What is read: right for the reader's language, zone and side, in summer and in winter."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import AppointmentStatus, Role, UserStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
    UserState,
)
from services.notification.notifying.wording import appointment_message

WINTER = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
WHEN = "Tuesday, 1 December 2026, 09:30 (UTC)"
WANN = "Dienstag, 1. Dezember 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"


def user(name: str, role: Role, time_zone: str = "UTC", locale: str = "en") -> UserState:
    return UserState(
        id=uuid7(),
        full_name=name,
        role=role,
        status=UserStatus.ACTIVE,
        time_zone=time_zone,
        locale=locale,
        email="someone@example.com",
        version=1,
    )


PATIENT, DOCTOR = user("Bo Patient", Role.PATIENT), user("Ada Doctor", Role.DOCTOR)
PATIENTIN = msgspec.structs.replace(PATIENT, time_zone="Europe/Berlin", locale="de")
AERZTIN = msgspec.structs.replace(DOCTOR, time_zone="Europe/Berlin", locale="de-AT")


def fields(status: AppointmentStatus, starts_at: datetime = WINTER) -> dict[str, Any]:
    return {
        "appointment_id": UUID(int=1),
        "patient_id": PATIENT.id,
        "doctor_id": DOCTOR.id,
        "starts_at": starts_at,
        "ends_at": starts_at + timedelta(minutes=30),
        "time_zone": "Europe/Berlin",
        "status": status,
        "version": 1,
    }


PENDING, CONFIRMED = AppointmentStatus.PENDING, AppointmentStatus.CONFIRMED
EVENTS: list[tuple[AppointmentEvent, str, str]] = [
    (
        AppointmentCreated(**fields(PENDING)),
        f"Your appointment with Ada Doctor on {WHEN} has been requested and is not confirmed yet.",
        f"Ein Termin mit Bo Patient am {WANN} ist angefragt und wartet auf Ihre Bestätigung.",
    ),
    (
        AppointmentCreated(**fields(CONFIRMED)),
        f"Your appointment with Ada Doctor on {WHEN} is booked and confirmed.",
        f"Ein Termin mit Bo Patient am {WANN} ist gebucht und bestätigt.",
    ),
    (
        AppointmentUpdated(**fields(CONFIRMED)),
        f"Your appointment with Ada Doctor on {WHEN} is confirmed.",
        f"Der Termin mit Bo Patient am {WANN} ist bestätigt.",
    ),
    (
        AppointmentUpdated(**fields(AppointmentStatus.COMPLETED)),
        f"Your appointment with Ada Doctor on {WHEN} is completed.",
        f"Der Termin mit Bo Patient am {WANN} ist abgeschlossen.",
    ),
    (
        AppointmentUpdated(**fields(AppointmentStatus.NO_SHOW)),
        f"Your appointment with Ada Doctor on {WHEN} is marked as missed.",
        f"Der Termin mit Bo Patient am {WANN} ist als versäumt vermerkt.",
    ),
    (
        AppointmentUpdated(**fields(AppointmentStatus.CANCELLED)),
        f"Your appointment with Ada Doctor on {WHEN} is cancelled.",
        f"Der Termin mit Bo Patient am {WANN} ist abgesagt.",
    ),
    (
        AppointmentUpdated(**fields(PENDING)),
        f"Your appointment with Ada Doctor on {WHEN} was updated.",
        f"Der Termin mit Bo Patient am {WANN} wurde geändert.",
    ),
    (
        AppointmentCancelled(**fields(AppointmentStatus.CANCELLED)),
        f"Your appointment with Ada Doctor on {WHEN} is cancelled.",
        f"Der Termin mit Bo Patient am {WANN} ist abgesagt.",
    ),
    (
        AppointmentCancelled(**fields(AppointmentStatus.CANCELLED), reason_code="unanswered"),
        f"Your appointment with Ada Doctor on {WHEN} is cancelled because it was not confirmed in time.",
        f"Der Termin mit Bo Patient am {WANN} ist abgesagt, weil er nicht rechtzeitig bestätigt wurde.",
    ),
    (
        AppointmentRescheduled(**fields(CONFIRMED), previous_starts_at=WINTER - timedelta(days=1)),
        f"Your appointment with Ada Doctor has been moved from Monday, 30 November 2026, 09:30 (UTC) to {WHEN}.",
        "Der Termin mit Bo Patient ist von Montag, 30. November 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
        f" auf {WANN} verschoben.",
    ),
    (
        AppointmentRescheduled(**fields(PENDING), previous_starts_at=WINTER - timedelta(days=1)),
        f"Your appointment with Ada Doctor has been moved from Monday, 30 November 2026, 09:30 (UTC) to {WHEN}."
        " It is not confirmed yet.",
        "Der Termin mit Bo Patient ist von Montag, 30. November 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
        f" auf {WANN} verschoben. Er wartet auf Ihre Bestätigung.",
    ),
]


@pytest.mark.parametrize(("event", "patient_reads", "doctor_reads"), EVENTS)
def test_each_side_reads_the_others_name_in_its_own_language_and_zone(
    event: Any, patient_reads: str, doctor_reads: str
) -> None:
    assert appointment_message(event, PATIENT, DOCTOR) == patient_reads
    assert appointment_message(event, AERZTIN, PATIENT) == doctor_reads


@pytest.mark.parametrize(("event", "patient_reads", "_"), EVENTS)
def test_the_two_sides_and_the_languages_differ(event: Any, patient_reads: str, _: str) -> None:
    texts = {
        appointment_message(event, *pair)
        for pair in ((PATIENT, DOCTOR), (DOCTOR, PATIENT), (PATIENTIN, DOCTOR), (AERZTIN, PATIENT))
    }
    assert len(texts) == 4
    assert not any("{" in text for text in texts)


@pytest.mark.parametrize(
    ("instant", "time_zone", "shown"),
    [
        ("2026-03-29T00:59:00Z", "Europe/Berlin", "Sunday, 29 March 2026, 01:59 (Europe/Berlin, UTC+01:00)"),
        ("2026-03-29T01:00:00Z", "Europe/Berlin", "Sunday, 29 March 2026, 03:00 (Europe/Berlin, UTC+02:00)"),
        ("2026-10-25T00:30:00Z", "Europe/Berlin", "Sunday, 25 October 2026, 02:30 (Europe/Berlin, UTC+02:00)"),
        ("2026-10-25T01:30:00Z", "Europe/Berlin", "Sunday, 25 October 2026, 02:30 (Europe/Berlin, UTC+01:00)"),
        ("2028-02-29T20:00:00Z", "Asia/Kathmandu", "Wednesday, 1 March 2028, 01:45 (Asia/Kathmandu, UTC+05:45)"),
        ("2027-01-01T04:00:00Z", "America/St_Johns", "Friday, 1 January 2027, 00:30 (America/St_Johns, UTC-03:30)"),
        ("2027-01-01T04:00:00Z", "America/New_York", "Thursday, 31 December 2026, 23:00 (America/New_York, UTC-05:00)"),
    ],
)
def test_a_moment_is_unambiguous_in_the_readers_zone(instant: str, time_zone: str, shown: str) -> None:
    event = AppointmentUpdated(**fields(CONFIRMED, datetime.fromisoformat(instant)))
    assert f" on {shown} is " in appointment_message(event, user("Bo", Role.PATIENT, time_zone), DOCTOR)


@pytest.mark.parametrize(
    ("locale", "begins"),
    [
        ("de", "Ihr "),
        ("de_CH", "Ihr "),
        ("DE-de", "Ihr "),
        ("en-GB", "Your "),
        ("den", "Your "),
        ("fr", "Your "),
        ("", "Your "),
    ],
)
def test_a_locale_is_read_by_its_language_and_english_stands_in(locale: str, begins: str) -> None:
    assert appointment_message(EVENTS[0][0], user("Bo", Role.PATIENT, locale=locale), DOCTOR).startswith(begins)


def test_a_zone_that_is_not_known_here_is_shown_in_utc() -> None:
    assert WHEN in appointment_message(EVENTS[0][0], user("Bo", Role.PATIENT, "Mars/Olympus_Mons"), DOCTOR)


def test_a_name_is_text_and_not_a_template() -> None:
    text = appointment_message(EVENTS[0][0], PATIENT, user("{start} {0} %s", Role.DOCTOR))
    assert text.startswith("Your appointment with {start} {0} %s on ")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\u05d3\u05d5\u05d3 \u05db\u05d4\u05df", "\u2068\u05d3\u05d5\u05d3 \u05db\u05d4\u05df\u2069"),
        ("\u0639\u0645\u0631 3", "\u2068\u0639\u0645\u0631 3\u2069"),
        ("Ada \u202eevil", "Ada evil"),
        ("\u2069\u05d3\u05d5\u05d3\u202e", "\u2068\u05d3\u05d5\u05d3\u2069"),
        ("Ada Brandt", "Ada Brandt"),
    ],
)
def test_a_name_does_not_turn_the_sentence_around(name: str, shown: str) -> None:
    text = appointment_message(EVENTS[0][0], PATIENT, user(name, Role.DOCTOR))
    assert text.startswith(f"Your appointment with {shown} on Tuesday")


def test_a_patient_who_never_chose_a_zone_reads_the_doctors() -> None:
    event = msgspec.structs.replace(EVENTS[0][0], time_zone="Europe/Berlin")
    patient = msgspec.structs.replace(PATIENT, time_zone_chosen=False)
    text = appointment_message(event, patient, DOCTOR)
    assert "Tuesday, 1 December 2026, 10:30 (Europe/Berlin, UTC+01:00)" in text
