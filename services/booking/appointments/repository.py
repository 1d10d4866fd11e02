from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from services.booking.appointments import statements as sql
from services.booking.appointments.changes import Change, state
from services.booking.appointments.schemas import Appointment, AppointmentState, HistoryEntry
from services.booking.idempotency import Answer, RequestKey, remembered
from services.contracts.appointments import FutureAppointment
from services.contracts.enums import AppointmentStatus, Role
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.outbox import event_values
from services.kit.trail.entry import entry
from services.kit.trail.tables import entry_values
from services.kit.zones import TZDATA_VERSION


class Claim(NamedTuple):
    """Time that an appointment wants to occupy; its own row, where it has one, is not in its way."""

    appointment_id: UUID
    doctor_id: UUID
    patient_id: UUID
    starts_at: datetime
    ends_at: datetime


class Look(NamedTuple):
    """What a claim meets. People who are not known here have no role."""

    now: datetime
    caller_role: str | None
    caller_status: str | None
    session_revoked: bool
    doctor_role: str | None
    doctor_status: str | None
    doctor_name: str | None
    doctor_time_zone: str | None
    patient_role: str | None
    patient_name: str | None
    patient_busy: bool
    doctor_busy: bool
    request_answered: bool


class Locked(NamedTuple):
    """An appointment whose row is locked, the database's time, and what is known of the caller."""

    visit: Appointment
    now: datetime
    caller_role: str | None = None
    caller_status: str | None = None
    session_revoked: bool = False


class Planned(NamedTuple):
    """What was agreed on for a visit that is to come."""

    id: UUID
    doctor_id: UUID
    patient_id: UUID
    starts_at: datetime
    wall_time: datetime
    time_zone: str


class AppointmentRepository:
    """Reads on a connection of their own, and the statements of a transaction, which go on the one they are given."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, appointment_id: UUID) -> Appointment:
        row = await self._database.fetchrow(sql.GET[principal.role], id=appointment_id, **_caller_of(principal))
        if row is None:
            raise NotFound
        return Appointment(**row)

    async def list(
        self, principal: Principal, *, limit: int, after: tuple[datetime, UUID] | None, **filters: Any
    ) -> Sequence[Appointment]:
        """By time descending, then id; `after` is the last one already seen. A filter that is None is none."""
        given = {name: value for name, value in filters.items() if value is not None}
        shape = frozenset(given)
        if after is not None:
            shape |= {"after"}
            given |= {"after_start": after[0], "after_id": after[1]}
        statement = sql.list_of(principal.role, shape)
        rows = await self._database.fetch(statement, limit=limit, **given, **_caller_of(principal))
        return [Appointment(**row) for row in rows]

    async def history(
        self, principal: Principal, appointment_id: UUID, *, limit: int, after_version: int
    ) -> Sequence[HistoryEntry]:
        """Oldest first."""
        values = {"id": appointment_id, "limit": limit, "after_version": after_version}
        rows = await self._database.fetch(sql.HISTORY[principal.role], **values, **_caller_of(principal))
        if not rows:
            await self.get(principal, appointment_id)
        return [_history_entry(row) for row in rows]

    async def future_of(self, role: Role, person_id: UUID, limit: int) -> Sequence[FutureAppointment]:
        """Of a doctor or a patient."""
        rows = await self._database.fetch(sql.FUTURE[role], limit=limit, **_person(role, person_id))
        return [FutureAppointment(id=id, starts_at=at, status=AppointmentStatus(status)) for id, at, status in rows]

    async def busy_times(self, claim: Claim, until: datetime, limit: int) -> Sequence[tuple[datetime, datetime]]:
        """What the doctor or the patient has between the claim's start and `until`, by start."""
        values = claim._replace(ends_at=until)._asdict()
        rows = await self._database.fetch(sql.BUSY, limit=limit, **values)
        return [(starts_at, ends_at) for starts_at, ends_at in rows]

    @staticmethod
    async def peek(connection: Connection, claim: Claim, caller: Principal, key: RequestKey | None) -> Look:
        """An unlocked look: what it finds in the way is in the way, and what it does not find may be by then."""
        return Look(*await sql.PEEK.fetchrow(connection, **_look_values(claim, caller, key)))

    @staticmethod
    async def look(
        connection: Connection, claim: Claim, caller: Principal | None = None, key: RequestKey | None = None
    ) -> Look:
        """The look under the locks. It clears dead holds away, so that the statements after it do not meet them."""
        return Look(*await sql.LOOK.fetchrow(connection, **_look_values(claim, caller, key)))

    @staticmethod
    async def parties(connection: Connection, principal: Principal, appointment_id: UUID) -> tuple[UUID, UUID]:
        """Doctor and patient, which never change: whom to lock before the row."""
        row = await sql.PARTIES[principal.role].fetchrow(connection, id=appointment_id, **_caller_of(principal))
        if row is None:
            raise NotFound
        return row[0], row[1]

    @staticmethod
    async def get_for_update(connection: Connection, principal: Principal, appointment_id: UUID) -> Locked:
        row = await sql.GET_FOR_UPDATE[principal.role].fetchrow(
            connection, id=appointment_id, caller=principal.id, caller_session=principal.session_id
        )
        if row is None:
            raise NotFound
        return Locked(_visit(row), row["now"], row["caller_role"], row["caller_status"], row["session_revoked"])

    @staticmethod
    async def unanswered_for_update(connection: Connection, limit: int) -> Sequence[Locked]:
        """Requests whose time has come, without those that another replica is at."""
        rows = await sql.UNANSWERED_FOR_UPDATE.fetch(connection, limit=limit)
        return [Locked(_visit(row), row["now"]) for row in rows]

    @staticmethod
    async def future_for_update(connection: Connection, role: Role, person_id: UUID, limit: int) -> Sequence[Locked]:
        rows = await sql.FUTURE_FOR_UPDATE[role].fetch(connection, limit=limit, **_person(role, person_id))
        return [Locked(_visit(row), row["now"]) for row in rows]

    async def planned_under_other_rules(self, after_id: UUID, limit: int) -> Sequence[Planned]:
        """Visits to come whose wall time was computed with another version of the time zones, by id."""
        rows = await self._database.fetch(
            sql.PLANNED_UNDER_OTHER_RULES, after_id=after_id, tzdata_version=TZDATA_VERSION, limit=limit
        )
        return [Planned(*row) for row in rows]

    async def confirm_rules(self, ids: Sequence[UUID]) -> None:
        """Nothing changed for these visits, and so neither does their version."""
        async with self._database.connection() as connection:
            await sql.CONFIRM_RULES.execute(connection, ids=ids, tzdata_version=TZDATA_VERSION)

    @staticmethod
    async def planned_for_update(connection: Connection, planned: Planned) -> Locked | None:
        """None when it is no longer planned like that."""
        row = await sql.PLANNED_FOR_UPDATE.fetchrow(connection, id=planned.id, starts_at=planned.starts_at)
        return None if row is None else Locked(_visit(row), row["now"])

    @staticmethod
    async def forget_texts(connection: Connection, patient_id: UUID, codes: Sequence[str]) -> None:
        """What was typed about a patient's visits, by whomever; `codes` are reasons that nobody typed."""
        await sql.FORGET_TEXTS.execute(connection, patient_id=patient_id, codes=codes)
        await sql.FORGET_HISTORY.execute(connection, patient_id=patient_id)

    @staticmethod
    async def forget_answers(connection: Connection, user_id: UUID) -> None:
        """Those kept for repeated requests, which have a visit in full."""
        await sql.FORGET_ANSWERS.execute(connection, caller=user_id)

    @staticmethod
    async def add(connection: Connection, change: Change, key: RequestKey | None, answer: Answer) -> bool:
        """Appointment, history, event and idempotency key, in one statement; False when a constraint refused."""
        visit = change.after
        values = _change_values(change) | _place_values(visit)
        values |= {"doctor_id": visit.doctor_id, "patient_id": visit.patient_id}
        if key is None:
            return await sql.ADD.fetchval(connection, **values) is not None
        return await sql.ADD_WITH_KEY.fetchval(connection, **values, **remembered(key, answer)) is not None

    @staticmethod
    async def write(connection: Connection, change: Change) -> None:
        """A change of a locked row with its history and event, in one statement."""
        if change.moves:
            await sql.MOVE.execute(connection, **_change_values(change), **_place_values(change.after))
        else:
            await sql.CHANGE.execute(connection, **_change_values(change))

    @staticmethod
    async def write_all(connection: Connection, changes: Sequence[Change]) -> None:
        """Changes that move nothing, in one round trip."""
        await connection.executemany(sql.CHANGE.sql, [sql.CHANGE.values(_change_values(change)) for change in changes])


def _person(role: Role, person_id: UUID) -> dict[str, UUID]:
    return {"doctor_id" if role == Role.DOCTOR else "patient_id": person_id}


def _visit(row: Any) -> Appointment:
    return Appointment(**{name: row[name] for name in Appointment.__struct_fields__})


def _history_entry(row: Any) -> HistoryEntry:
    values = dict(row)
    values["after"] = msgspec.convert(values["after"], AppointmentState)
    values["before"] = msgspec.convert(values["before"], AppointmentState | None)
    return HistoryEntry(**values)


def _caller_of(principal: Principal) -> dict[str, UUID]:
    return {} if principal.role == Role.ADMIN else {"caller": principal.id}


def _look_values(claim: Claim, caller: Principal | None, key: RequestKey | None) -> dict[str, Any]:
    values: dict[str, Any] = claim._asdict() | {"caller": None, "caller_session": None, "key_route": None, "key": None}
    if caller is not None:
        values |= {"caller": caller.id, "caller_session": caller.session_id}
    if key is not None:
        values |= {"key_route": key.route, "key": key.key}
    return values


def _change_values(change: Change) -> dict[str, Any]:
    visit = change.after
    event = event_values(
        change.event(), event_id=uuid7(), aggregatetype="appointment", aggregateid=visit.id, version=visit.version
    )
    return {
        "appointment_id": visit.id,
        "appointment_status": visit.status,
        "overbooked": visit.overbooked,
        "notes": visit.notes,
        "cancellation_reason": visit.cancellation_reason,
        "changed_at": visit.updated_at,
        "actor_id": change.actor.id,
        "actor_role": change.actor.role,
        "reason": change.reason,
        "state_before": state(change.before) if change.before else None,
        "state_after": state(visit),
        **event,
        **entry_values(
            entry(
                change.action,
                actor_id=change.actor.id,
                actor_role=change.actor.role,
                session_id=change.actor.session_id,
                target_type="appointment",
                target_id=visit.id,
            )
        ),
    }


def _place_values(visit: Appointment) -> dict[str, Any]:
    return {
        "starts_at": visit.date_time,
        "ends_at": visit.ends_at,
        "time_zone": visit.time_zone,
        "wall_time": visit.local_date_time,
        "tzdata_version": TZDATA_VERSION,
    }
