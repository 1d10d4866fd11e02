"""The statements of holds: rows of `appointments` that are HELD."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array, insert

from services.booking.holds.schemas import Hold
from services.booking.idempotency import ANSWERED, Answer, RequestKey, answer_values, insert_answer, key_values
from services.booking.models.appointments import appointments
from services.booking.models.messages import audit_log
from services.booking.time import obstacles, ranges
from services.booking.time.chosen_type import UNTYPED, ChosenType, TypeChoice
from services.booking.time.obstacles import Claim, Obstacles, found, obstacle_values, param
from services.booking.time.open_time import OpenTime
from services.contracts.enums import AppointmentMode, Role
from services.kit.auth import KnownCaller, Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Connection, Statement
from services.kit.trail import tables as trail
from services.kit.trail.entry import entry
from services.kit.zones import TZDATA_VERSION


class Held(NamedTuple):
    """The row of a hold's id. It may be an appointment already, or never have been a hold of this caller's."""

    doctor_id: UUID
    patient_id: UUID
    starts_at: datetime
    ends_at: datetime
    held_at: datetime
    is_held: bool
    is_live: bool
    buffer_before: timedelta
    buffer_after: timedelta
    type_id: UUID | None
    type_name: str | None
    type_mode: AppointmentMode | None
    type_price: str | None
    requires_confirmation: bool | None

    @classmethod
    def of(cls, row: Any) -> "Held | None":
        """Convert the columns `HELD`, which are null where no row has the id."""
        return None if row[0] is None else cls(*row)

    @property
    def type(self) -> ChosenType:
        """Return the type as it was when the time was held."""
        return UNTYPED._replace(
            id=self.type_id,
            name=self.type_name,
            mode=self.type_mode,
            price=self.type_price,
            requires_confirmation=self.requires_confirmation,
        )

    def occupying(self, claim: Claim) -> Claim:
        """Return the claim with the length and the buffers of the hold."""
        return claim._replace(ends_at=self.ends_at, buffer_before=self.buffer_before, buffer_after=self.buffer_after)

    def is_visible_to(self, principal: Principal) -> bool:
        parties: dict[str, UUID] = {Role.PATIENT: self.patient_id, Role.DOCTOR: self.doctor_id}
        return principal.role == Role.ADMIN or parties.get(principal.role) == principal.id


class Look(NamedTuple):
    caller: KnownCaller
    answered: bool
    held: Held | None


async def look_at_hold(connection: Connection, principal: Principal, hold_id: UUID, key: RequestKey | None) -> Look:
    """Read a hold without a lock, and whether the request that names it was answered before."""
    row = await LOOK.fetchrow(connection, appointment_id=hold_id, **_caller_values(principal), **key_values(key))
    known, held = len(obstacles.CALLER), -len(HELD)
    return Look(KnownCaller(*row[:known]), row[known], Held.of(row[held:]))


async def find_held(
    connection: Connection, claim: Claim, principal: Principal
) -> tuple[Obstacles, OpenTime, Held | None]:
    """Read the obstacles as `find_obstacles` does, and the hold that has the claim's id."""
    row = await FIND.fetchrow(connection, **obstacle_values(claim, principal))
    return (*found(row[: -len(HELD)]), Held.of(row[-len(HELD) :]))


async def find_obstacles(
    connection: Connection, claim: Claim, principal: Principal, choice: TypeChoice
) -> tuple[Obstacles, OpenTime, int]:
    """Read the obstacles to a new hold, and how many the patient has already."""
    row = await FIND_WITH_COUNT.fetchrow(connection, **obstacle_values(claim, principal, choice))
    return (*found(row[:-1], choice), row[-1])


async def add(
    connection: Connection, hold: Hold, chosen: ChosenType, principal: Principal, key: RequestKey | None, answer: Answer
) -> bool:
    """Write a hold, its audit entry and the answer; False when a constraint refused it."""
    buffer_before, buffer_after = chosen.buffers
    values = {
        "appointment_id": hold.id,
        "doctor_id": hold.doctor_id,
        "patient_id": hold.patient_id,
        "hold_expires_at": hold.expires_at,
        "starts_at": hold.starts_at,
        "ends_at": hold.ends_at,
        "time_zone": hold.time_zone,
        "wall_time": hold.local_starts_at,
        "tzdata_version": TZDATA_VERSION,
        "created_at": hold.created_at,
        "buffer_before": buffer_before,
        "buffer_after": buffer_after,
        "type_id": chosen.id,
        "type_name": chosen.name,
        "type_mode": chosen.mode,
        "type_price": chosen.price,
        "requires_confirmation": chosen.requires_confirmation,
        "join_url": chosen.new_join_url(),
        **_audited("hold.created", hold.id, principal),
    }
    if key is None:
        return await ADD.fetchval(connection, **values) is not None
    return await ADD_WITH_ANSWER.fetchval(connection, **values, **answer_values(key, answer)) is not None


async def get_caller(connection: Connection, principal: Principal) -> KnownCaller:
    return KnownCaller(*await GET_CALLER.fetchrow(connection, **_caller_values(principal)))


async def release(connection: Connection, principal: Principal, hold_id: UUID) -> None:
    """Delete a live hold that the caller may see, with an audit entry."""
    values = {} if principal.role == Role.ADMIN else {"caller": principal.id}
    audited = _audited("hold.released", hold_id, principal)
    if await RELEASE[principal.role].fetchval(connection, id=hold_id, **values, **audited) is None:
        raise NotFound


async def release_all(connection: Connection, role: Role, user_id: UUID) -> None:
    """Delete the holds of an erased doctor or patient, expired ones included."""
    await RELEASE_ALL[role].execute(connection, **{f"{role.lower()}_id": user_id})


def _caller_values(principal: Principal) -> dict[str, Any]:
    return {"caller": principal.id, "caller_session": principal.session_id}


def _audited(action: str, hold_id: UUID, principal: Principal) -> dict[str, Any]:
    return trail.entry_values(entry(action, actor=principal, target_type="hold", target_id=hold_id))


ID = param("id", appointments.c.id)
IS_HELD = appointments.c.status == sa.literal_column("'HELD'")
# A hold ends with its start at the latest; saying so lets the indexes by start find it.
LIVE = sa.and_(IS_HELD, appointments.c.hold_expires_at > obstacles.NOW, appointments.c.starts_at > obstacles.NOW)
_VISIBLE: dict[str, sa.ColumnElement[bool]] = {
    Role.PATIENT: appointments.c.patient_id == obstacles.CALLER_ID,
    Role.DOCTOR: appointments.c.doctor_id == obstacles.CALLER_ID,
    Role.ADMIN: sa.true(),
}


def live_and_visible_to(role: str) -> sa.ColumnElement[bool]:
    """Return the condition that every read of holds for a caller starts from."""
    return sa.and_(LIVE, _VISIBLE[role])


_held = appointments.alias("held")
_is_held = _held.c.status == sa.literal_column("'HELD'")
HELD = (
    *(_held.c[name].label(f"held_{name}") for name in ("doctor_id", "patient_id", "starts_at", "ends_at")),
    _held.c.created_at.label("held_at"),
    _is_held.label("is_held"),
    sa.func.coalesce(_held.c.hold_expires_at > obstacles.NOW, sa.false()).label("is_live"),
    (sa.func.lower(_held.c.during) - sa.func.lower(_held.c.blocked)).label("held_before"),
    (sa.func.upper(_held.c.blocked) - sa.func.upper(_held.c.during)).label("held_after"),
    *(_held.c[name].label(f"held_{name}") for name in ("type_id", "type_name", "type_mode")),
    sa.cast(_held.c.type_price, sa.Text).label("held_type_price"),
    _held.c.requires_confirmation.label("held_requires_confirmation"),
)
_of_claim = _held.c.id == obstacles.APPOINTMENT_ID
_one = sa.select(sa.literal_column("1").label("one")).subquery("one")
_caller = _one.outerjoin(obstacles.caller, obstacles.caller.c.id == obstacles.CALLER_ID)
LOOK = Statement(
    sa.select(*obstacles.CALLER, ANSWERED.label("answered"), *HELD).select_from(_caller.outerjoin(_held, _of_claim))
)
FIND = Statement(obstacles.WITH_OPEN_TIME.add_columns(*HELD).outerjoin(_held, _of_claim))
_count = sa.select(sa.func.count()).where(appointments.c.patient_id == obstacles.PATIENT_ID, LIVE).scalar_subquery()
FIND_WITH_COUNT = Statement(obstacles.WITH_OPEN_TIME.add_columns(_count.label("holds")))

_params = {
    name: param(name, appointments.c[name])
    for name in (
        *("hold_expires_at", "time_zone", "wall_time", "tzdata_version", "created_at"),
        *("type_id", "type_name", "type_mode", "type_price", "requires_confirmation", "join_url"),
    )
}
_added = (
    insert(appointments)
    .values(
        id=obstacles.APPOINTMENT_ID,
        doctor_id=obstacles.DOCTOR_ID,
        patient_id=obstacles.PATIENT_ID,
        status=sa.literal_column("'HELD'"),
        during=ranges.DURING,
        blocked=ranges.BLOCKED,
        overbooked=sa.false(),
        version=sa.literal_column("1"),
        updated_at=_params["created_at"],
        **_params,
    )
    .on_conflict_do_nothing()
    .returning(appointments.c.id)
    .cte("added")
)
_people = array([obstacles.DOCTOR_ID, obstacles.PATIENT_ID])


def _with_audit(changed: sa.CTE, *more: sa.CTE) -> Statement:
    audited = trail.insert_entry(audit_log, for_each=changed).cte("audited")
    return Statement(sa.select(changed.c.id).add_cte(audited, *more))


ADD = _with_audit(_added)
ADD_WITH_ANSWER = _with_audit(_added, insert_answer(_added, _people).cte("answer"))

GET_CALLER = Statement(sa.select(*obstacles.CALLER).select_from(_caller))


def _released(role: str) -> Statement:
    condition = sa.and_(appointments.c.id == ID, live_and_visible_to(role))
    return _with_audit(sa.delete(appointments).where(condition).returning(appointments.c.id).cte("released"))


RELEASE = {str(role): _released(role) for role in Role}
RELEASE_ALL = {
    Role.DOCTOR: Statement(sa.delete(appointments).where(appointments.c.doctor_id == obstacles.DOCTOR_ID, IS_HELD)),
    Role.PATIENT: Statement(sa.delete(appointments).where(appointments.c.patient_id == obstacles.PATIENT_ID, IS_HELD)),
}
