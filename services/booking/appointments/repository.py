"""The statements of a transaction that changes appointments."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array, insert
from uuid_utils.compat import uuid7

from services.booking.appointments import rows
from services.booking.appointments.changes import Change
from services.booking.appointments.rows import appointment_of, caller_values
from services.booking.appointments.schemas import Appointment, BookedType
from services.booking.appointments.terms import Terms
from services.booking.idempotency import Answer, RequestKey, answer_values, insert_answer
from services.booking.models.appointments import appointment_history as history
from services.booking.models.appointments import appointments
from services.booking.models.messages import audit_log
from services.booking.models.messages import outbox as outbox_table
from services.booking.models.schedules import schedules
from services.booking.time import obstacles, ranges
from services.booking.time.obstacles import Claim, caller, param
from services.contracts.enums import Role
from services.kit.auth import KnownCaller, Principal
from services.kit.errors import NotFound
from services.kit.postgres import outbox
from services.kit.postgres.database import Connection, Statement
from services.kit.trail import tables as trail
from services.kit.zones import TZDATA_VERSION


class Locked(NamedTuple):
    """An appointment whose row is locked, the database's time since then, and the appointment's terms."""

    appointment: Appointment
    now: datetime
    terms: Terms

    @classmethod
    def of(cls, row: Any) -> "Locked":
        return cls(appointment_of(row), row["now"], Terms(*(row[f"terms_{name}"] for name in Terms._fields)))

    def claim(self, after: Appointment) -> Claim:
        """Return the time that the appointment is to occupy, with the buffers that it has."""
        before, (buffer_before, buffer_after, *_) = self.appointment, self.terms
        claim = Claim(before.id, before.doctor_id, before.patient_id, after.starts_at, after.ends_at)
        return claim._replace(buffer_before=buffer_before, buffer_after=buffer_after)


async def parties(connection: Connection, principal: Principal, appointment_id: UUID) -> tuple[UUID, UUID]:
    """Return doctor and patient, which never change, so that their time can be locked before the row."""
    row = await PARTIES[principal.role].fetchrow(connection, id=appointment_id, **caller_values(principal))
    if row is None:
        raise NotFound
    return row[0], row[1]


async def get_for_update(
    connection: Connection, principal: Principal, appointment_id: UUID
) -> tuple[Locked, KnownCaller, timedelta]:
    """Return the appointment, the caller, and how long before the start the doctor's patients can last change it."""
    values = {"id": appointment_id, "caller": principal.id, "caller_session": principal.session_id}
    row = await GET_FOR_UPDATE[principal.role].fetchrow(connection, **values)
    if row is None:
        raise NotFound
    return Locked.of(row), KnownCaller(*row[-len(obstacles.CALLER) :]), timedelta(minutes=row["cutoff_minutes"])


async def unanswered_for_update(connection: Connection, limit: int) -> Sequence[Locked]:
    """Return requests whose start has passed, without the rows that another transaction holds."""
    return [Locked.of(row) for row in await UNANSWERED_FOR_UPDATE.fetch(connection, limit=limit)]


async def future_for_update(connection: Connection, role: Role, user_id: UUID, limit: int) -> Sequence[Locked]:
    """Return the next appointments of a doctor or a patient, earliest first."""
    rows = await FUTURE_FOR_UPDATE[role].fetch(connection, limit=limit, **{f"{role.lower()}_id": user_id})
    return [Locked.of(row) for row in rows]


async def add(connection: Connection, change: Change, terms: Terms, key: RequestKey | None, answer: Answer) -> bool:
    """Write a new appointment, the rest of its `Change` and the answer; False when a constraint refused it."""
    after, booked = change.after, change.after.type
    values = {"doctor_id": after.doctor_id, "patient_id": after.patient_id, **_values(change), **_place(after)}
    values |= terms._asdict()
    if booked is not None:
        values |= {f"type_{name}": getattr(booked, name) for name in BookedType.__struct_fields__}
    if key is None:
        return await ADD.fetchval(connection, **values) is not None
    return await ADD_WITH_ANSWER.fetchval(connection, **values, **answer_values(key, answer)) is not None


async def book_held(connection: Connection, change: Change, key: RequestKey | None, answer: Answer) -> bool:
    """Let a hold become the appointment of its id, as `add` writes one; False when it is no hold any more."""
    after = change.after
    values = {**_values(change), **_agreed(after)}
    if key is None:
        return await BOOK_HELD.fetchval(connection, **values) is not None
    values |= {"doctor_id": after.doctor_id, "patient_id": after.patient_id, **answer_values(key, answer)}
    return await BOOK_HELD_WITH_ANSWER.fetchval(connection, **values) is not None


async def write(connection: Connection, change: Change) -> None:
    """Write the change of a locked row with its history, event and audit entry."""
    if change.moves:
        written = await MOVE.fetch(connection, **_values(change), **_place(change.after))
    else:
        written = await CHANGE.fetch(connection, **_values(change))
    _require(len(written) == 1)


async def write_all(connection: Connection, changes: Sequence[Change]) -> None:
    """Write changes that move nothing, in one round trip."""
    written = await connection.fetchmany(CHANGE.sql, [CHANGE.values(_values(change)) for change in changes])
    _require(len(written) == len(changes))


def _require(written: bool) -> None:
    """Fail the transaction of a change that its version kept from being written: nobody would learn that it is lost."""
    if not written:
        raise RuntimeError("an appointment has another version than the change: its row was not locked")


def _values(change: Change) -> dict[str, Any]:
    after = change.after
    event = outbox.event_values(
        change.event(), event_id=uuid7(), aggregatetype="appointment", aggregateid=after.id, version=after.version
    )
    state = {name: getattr(after, name) for name in _STATE}
    return {"appointment_id": after.id, **state, **change.history(), **event, **trail.entry_values(change.audit())}


def _place(appointment: Appointment) -> dict[str, Any]:
    return {"starts_at": appointment.starts_at, "ends_at": appointment.ends_at, **_agreed(appointment)}


def _agreed(appointment: Appointment) -> dict[str, Any]:
    return {
        "time_zone": appointment.time_zone,
        "wall_time": appointment.local_starts_at,
        "tzdata_version": TZDATA_VERSION,
    }


PARTIES = rows.by_id(sa.select(appointments.c.doctor_id, appointments.c.patient_id))


def locked(query: sa.Select[Any], *, skip_locked: bool = False) -> Statement:
    return Statement(query.with_for_update(of=appointments, skip_locked=skip_locked))


_TERMS: dict[str, sa.ColumnElement[Any]] = {
    "buffer_before": ranges.BUFFER_BEFORE,
    "buffer_after": ranges.BUFFER_AFTER,
    "requires_confirmation": appointments.c.requires_confirmation,
    "join_url": appointments.c.join_url,
}
# `now` is read again for a row that had to be waited for, so that the history's times follow its versions.
LOCKED = rows.SELECT.add_columns(
    sa.func.clock_timestamp().label("now"), *(source.label(f"terms_{name}") for name, source in _TERMS.items())
)
_CUTOFF = sa.func.coalesce(schedules.c.cancellation_cutoff_minutes, sa.literal_column("0")).label("cutoff_minutes")
_WITH_CALLER = (
    LOCKED.add_columns(_CUTOFF, *obstacles.CALLER)
    .outerjoin_from(appointments, schedules, schedules.c.doctor_id == appointments.c.doctor_id)
    .outerjoin(caller, caller.c.id == obstacles.CALLER_ID)
)
GET_FOR_UPDATE = rows.by_id(_WITH_CALLER, locked)
_BY_START = LOCKED.order_by(appointments.c.starts_at).limit(rows.LIMIT)
FUTURE_FOR_UPDATE = {role: locked(_BY_START.where(upcoming)) for role, upcoming in rows.UPCOMING_OF.items()}
_OVERDUE = sa.and_(rows.PENDING, appointments.c.starts_at <= obstacles.NOW)
UNANSWERED_FOR_UPDATE = locked(_BY_START.where(_OVERDUE), skip_locked=True)


def _params(table: sa.Table, *names: str) -> dict[str, sa.BindParameter[Any]]:
    return {name: param(name, table.c[name]) for name in names}


_STATE = _params(appointments, "status", "overbooked", "notes", "cancellation_reason", "version", "updated_at")
_AGREED = _params(appointments, "time_zone", "wall_time", "tzdata_version")
_PLACE = {"during": ranges.DURING, **_AGREED}
_HISTORY = _params(history, "actor_id", "actor_role", "reason", "changes")


def _with_history_event_and_audit(changed: sa.CTE, *more: sa.CTE) -> Statement:
    """Return the statement of `changed` that also writes the rest of a `Change` for each row that `changed` returns."""
    entry = {"version": _STATE["version"], "changed_at": _STATE["updated_at"], **_HISTORY}
    written = sa.insert(history).from_select(
        ["appointment_id", *entry], sa.select(changed.c.id, *entry.values()).select_from(changed)
    )
    event = outbox.insert_event(outbox_table, for_each=changed)
    audited = trail.insert_entry(audit_log, for_each=changed)
    ctes = (written.cte("entry"), event.cte("event"), audited.cte("audited"), *more)
    return Statement(sa.select(changed.c.id).add_cte(*ctes))


_added = (
    insert(appointments)
    .values(
        id=obstacles.APPOINTMENT_ID,
        doctor_id=obstacles.DOCTOR_ID,
        patient_id=obstacles.PATIENT_ID,
        created_at=_STATE["updated_at"],
        blocked=ranges.BLOCKED,
        **_STATE,
        **_PLACE,
        **_params(appointments, "type_id", "type_name", "type_mode", "type_price", "requires_confirmation", "join_url"),
    )
    .on_conflict_do_nothing()
    .returning(appointments.c.id)
    .cte("added")
)
_PEOPLE = array([obstacles.DOCTOR_ID, obstacles.PATIENT_ID])
ADD = _with_history_event_and_audit(_added)
ADD_WITH_ANSWER = _with_history_event_and_audit(_added, insert_answer(_added, _PEOPLE).cte("answer"))
_booked = (
    sa.update(appointments)
    .where(appointments.c.id == obstacles.APPOINTMENT_ID, appointments.c.status == sa.literal_column("'HELD'"))
    .values(hold_expires_at=sa.null(), created_at=_STATE["updated_at"], **_STATE, **_AGREED)
    .returning(appointments.c.id)
    .cte("booked")
)
BOOK_HELD = _with_history_event_and_audit(_booked)
BOOK_HELD_WITH_ANSWER = _with_history_event_and_audit(_booked, insert_answer(_booked, _PEOPLE).cte("answer"))


def _changed(**values: Any) -> sa.CTE:
    return (
        sa.update(appointments)
        .where(
            appointments.c.id == obstacles.APPOINTMENT_ID,
            appointments.c.version == _STATE["version"] - sa.literal_column("1"),
        )
        .values(values)
        .returning(appointments.c.id)
        .cte("changed")
    )


CHANGE = _with_history_event_and_audit(_changed(**_STATE))
# The buffers move with it.
_MOVED = ranges.time_range(
    sa.func.lower(ranges.DURING) - _TERMS["buffer_before"], sa.func.upper(ranges.DURING) + _TERMS["buffer_after"]
)
MOVE = _with_history_event_and_audit(_changed(**_STATE, **_PLACE, blocked=_MOVED))
