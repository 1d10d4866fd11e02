"""Old bytes stay readable. Never edit a golden file: when a contract changes, add another file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from services.contracts.appointments import FutureAppointment, FutureAppointments
from services.contracts.enums import AppointmentStatus, MailKind, Role, UserStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
    Event,
    MailRequested,
    SessionRevoked,
    UnknownEventType,
    UserApproved,
    UserErased,
    UserEvent,
    UserRegistered,
    UserState,
    UserSuspended,
    UserUpdated,
    decode_appointment_event,
    decode_user_event,
    encode,
)
from services.contracts.mails import Mail
from services.contracts.tokens import AccessClaims

GOLDEN = Path(__file__).parent / "golden"

DOCTOR = UserState(
    id=UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071"),
    full_name="Ada Example",
    role=Role.DOCTOR,
    status=UserStatus.ACTIVE,
    time_zone="Europe/Berlin",
    locale="de",
    email="ada@example.org",
    phone="+4930123456",
    speciality="Cardiology",
    version=3,
)
PATIENT = UserState(
    id=UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"),
    full_name="Bo Example",
    role=Role.PATIENT,
    status=UserStatus.ACTIVE,
    time_zone="UTC",
    locale="en",
    email="bo@example.org",
    version=1,
)
APPOINTMENT: dict[str, Any] = {
    "appointment_id": UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"),
    "patient_id": PATIENT.id,
    "doctor_id": DOCTOR.id,
    "starts_at": datetime(2026, 12, 1, 9, 30, tzinfo=UTC),
    "ends_at": datetime(2026, 12, 1, 10, tzinfo=UTC),
    "time_zone": "Europe/Berlin",
    "status": AppointmentStatus.PENDING,
    "version": 1,
    "actor_id": PATIENT.id,
}
MOVED = {"starts_at": datetime(2026, 12, 2, 9, 30, tzinfo=UTC), "ends_at": datetime(2026, 12, 2, 10, tzinfo=UTC)}
EVENTS: list[Event] = [
    UserRegistered(user=PATIENT),
    UserUpdated(user=DOCTOR),
    UserApproved(user=DOCTOR),
    UserSuspended(user=msgspec.structs.replace(DOCTOR, status=UserStatus.SUSPENDED, version=4), on_conflict="cancel"),
    UserErased(
        user=UserState(
            id=PATIENT.id,
            full_name="Erased user",
            role=Role.PATIENT,
            status=UserStatus.SUSPENDED,
            time_zone="UTC",
            locale="en",
            email="019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072@erased.invalid",
            version=5,
            erased=True,
        )
    ),
    SessionRevoked(
        session_id=UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6074"),
        user_id=PATIENT.id,
        expires_at=datetime(2026, 12, 1, 9, 50, tzinfo=UTC),
    ),
    MailRequested(mail_id=UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6075")),
    AppointmentCreated(**APPOINTMENT),
    AppointmentUpdated(**APPOINTMENT | {"status": AppointmentStatus.CONFIRMED, "version": 2, "actor_id": DOCTOR.id}),
    AppointmentRescheduled(**APPOINTMENT | MOVED | {"version": 3, "previous_starts_at": APPOINTMENT["starts_at"]}),
    AppointmentCancelled(
        **APPOINTMENT | {"status": AppointmentStatus.CANCELLED, "version": 4, "actor_id": None},
        reason_code="unanswered",
    ),
]
each_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def decode(payload: bytes, like: Event) -> Event:
    return decode_user_event(payload) if isinstance(like, get_args(UserEvent)) else decode_appointment_event(payload)


def is_superset(new: Any, old: Any) -> bool:
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and is_superset(new[key], old[key]) for key in old)
    return bool(new == old)


@each_event
def test_old_bytes_decode(event: Event) -> None:
    assert decode(golden(event.type), event) == event


@each_event
def test_new_bytes_hold_every_field_that_an_old_reader_knows(event: Event) -> None:
    assert is_superset(msgspec.json.decode(encode(event)), msgspec.json.decode(golden(event.type)))


@each_event
def test_a_field_from_the_future_is_ignored(event: Event) -> None:
    document = msgspec.json.decode(golden(event.type))
    if "user" in document:
        document["user"]["addedLater"] = 1
    assert decode(msgspec.json.encode({**document, "addedLater": {"a": [1]}}), event) == event


def test_every_contract_has_a_golden_file() -> None:
    contracts = {contract.__name__ for contract in (*get_args(UserEvent), *get_args(AppointmentEvent))}
    contracts |= {"AccessClaims", "FutureAppointments", "Mail"}
    assert {file.stem.partition("-")[0] for file in GOLDEN.glob("*.json")} == contracts


def test_a_mail_request_carries_its_kind() -> None:
    event = MailRequested(mail_id=UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6075"), kind=MailKind.VERIFY_EMAIL)
    assert decode_user_event(golden("MailRequested-2")) == event
    assert msgspec.json.decode(encode(event)) == msgspec.json.decode(golden("MailRequested-2"))


@pytest.mark.parametrize("decode", [decode_user_event, decode_appointment_event])
def test_an_unknown_type_and_a_broken_payload_are_different_errors(decode: Any) -> None:
    with pytest.raises(UnknownEventType, match="FromTheFuture"):
        decode(b'{"type": "FromTheFuture", "version": 9}')
    for broken in (b"", b"{", b"[]", b"{}", b'{"type": 1}', b'{"type": "\xff"}'):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            decode(broken)


def test_an_event_of_another_stream_is_of_an_unknown_type() -> None:
    with pytest.raises(UnknownEventType):
        decode_user_event(golden("AppointmentCreated"))
    with pytest.raises(UnknownEventType):
        decode_appointment_event(golden("UserUpdated"))


def test_a_known_event_without_a_required_field_is_broken() -> None:
    document = msgspec.json.decode(golden("AppointmentCreated"))
    del document["doctorId"]
    with pytest.raises(msgspec.ValidationError, match="doctorId"):
        decode_appointment_event(msgspec.json.encode(document))


def test_free_text_is_no_reason_code() -> None:
    with pytest.raises(ValueError, match="never free text"):
        AppointmentCancelled(**APPOINTMENT, reason_code="Feeling much better, thanks")
    with pytest.raises(msgspec.ValidationError, match="never free text"):
        decode_appointment_event(golden("AppointmentCancelled").replace(b"unanswered", b"Feeling better"))


def test_old_access_claims_decode() -> None:
    claims = msgspec.json.decode(golden("AccessClaims"), type=AccessClaims)
    assert (claims.sub, claims.role, claims.exp - claims.iat) == (DOCTOR.id, Role.DOCTOR, 900)
    assert msgspec.json.decode(msgspec.json.encode(claims)) == msgspec.json.decode(golden("AccessClaims"))


def test_an_old_mail_decodes() -> None:
    mail = msgspec.json.decode(golden("Mail"), type=Mail)
    assert (mail.kind, mail.user_id, mail.expires_at.hour) == (MailKind.PASSWORD_RESET, PATIENT.id, 10)
    assert msgspec.json.decode(msgspec.json.encode(mail)) == msgspec.json.decode(golden("Mail"))


def test_old_future_appointments_decode() -> None:
    (appointment,) = msgspec.json.decode(golden("FutureAppointments"), type=FutureAppointments).items
    assert appointment == FutureAppointment(
        id=APPOINTMENT["appointment_id"], starts_at=APPOINTMENT["starts_at"], status=AppointmentStatus.CONFIRMED
    )
    answer = FutureAppointments(items=[appointment])
    assert msgspec.json.decode(msgspec.json.encode(answer)) == msgspec.json.decode(golden("FutureAppointments"))
