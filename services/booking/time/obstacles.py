"""What stands in the way of a claim on time: the people's own state, and whatever else occupies their time."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.booking.errors import DoctorNotFound, DoctorUnavailable, PatientBusy, PatientNotFound, SlotTaken
from services.booking.models.appointments import OCCUPIES_DOCTOR, OCCUPIES_TIME, OVERBOOKED, appointments
from services.booking.models.schedules import schedule_exception_history, schedules
from services.booking.models.users import revoked_sessions, users
from services.booking.time import chosen_type
from services.booking.time.chosen_type import NO_CHOICE, ChosenType, TypeChoice, chosen
from services.booking.time.open_time import OpenTime
from services.booking.time.ranges import LONGEST, TYPED_BLOCKED, TYPED_DURING
from services.contracts.enums import Role, UserStatus
from services.kit.auth import KnownCaller, Principal
from services.kit.postgres.database import Connection, Statement


class Claim(NamedTuple):
    """Time that an appointment is to occupy. The appointment's own row, if it has one, is not in the way.

    The buffers are the doctor's, not the patient's. They and the end are the type's where a claim has one.
    """

    appointment_id: UUID
    doctor_id: UUID
    patient_id: UUID
    starts_at: datetime
    ends_at: datetime
    buffer_before: timedelta = timedelta()
    buffer_after: timedelta = timedelta()


class Obstacles(NamedTuple):
    """Everything that a claim depends on. A person without a row in the projection has no role."""

    now: datetime
    caller: KnownCaller
    doctor_role: str | None
    doctor_status: str | None
    doctor_name: str | None
    doctor_time_zone: str | None
    patient_role: str | None
    patient_name: str | None
    patient_busy: bool
    doctor_busy: bool
    schedule_version: int | None
    schedule_updated_at: datetime | None
    auto_confirm: bool
    open_appointments_per_patient: int | None
    exceptions_revision: int | None
    exceptions_changed_at: datetime | None
    patient_known: bool
    type: ChosenType

    @classmethod
    def of(cls, row: Any, choice: TypeChoice) -> "Obstacles":
        """Convert a row of `OBSTACLES`."""
        *state, patient_known = row[: -len(chosen_type.COLUMNS)]
        found = ChosenType(choice, *row[-len(chosen_type.COLUMNS) :])
        return cls._make([state[0], KnownCaller(*state[1:4]), *state[4:], patient_known, found])

    def with_type(self, claim: Claim) -> Claim:
        """Return the claim as the statement that found these obstacles took it."""
        if self.type.duration is None:
            return claim
        ends_at = claim.starts_at + self.type.duration if self.type.choice.minutes is None else claim.ends_at
        return Claim(*claim[:4], ends_at, *self.type.buffers)

    def refuse(self, *, overbook: bool = False) -> None:
        """Raise the error of the first obstacle. Only `overbook` gets past a busy doctor, and nothing past a busy
        patient.
        """
        if self.doctor_role != Role.DOCTOR or self.doctor_status == UserStatus.PENDING:
            raise DoctorNotFound
        if self.doctor_status == UserStatus.SUSPENDED:
            raise DoctorUnavailable
        if self.patient_role != Role.PATIENT:
            raise PatientNotFound
        self.type.refuse()
        self.type.refuse_patient(known=self.patient_known)
        if self.patient_busy:
            raise PatientBusy
        if self.doctor_busy and not overbook:
            raise SlotTaken


async def find_obstacles(
    connection: Connection, claim: Claim, caller: Principal | None = None, choice: TypeChoice = NO_CHOICE
) -> tuple[Obstacles, OpenTime]:
    """Read the obstacles under the locks, and delete expired holds, which would still refuse an INSERT.

    Without a `choice` the claim's own length and buffers count, as those of an appointment do that has them already.
    """
    return found(await FIND.fetchrow(connection, **obstacle_values(claim, caller, choice)), choice)


def found(row: Any, choice: TypeChoice = NO_CHOICE) -> tuple[Obstacles, OpenTime]:
    """Convert a row of `WITH_OPEN_TIME`."""
    return Obstacles.of(row[: -len(_OPEN_TIME)], choice), OpenTime(*row[-len(_OPEN_TIME) :])


def obstacle_values(claim: Claim, caller: Principal | None, choice: TypeChoice = NO_CHOICE) -> dict[str, Any]:
    """Return the parameters of `OBSTACLES`. The system itself is no caller."""
    return {
        **claim._asdict(),
        **choice.values,
        "caller": caller and caller.id,
        "caller_session": caller and caller.session_id,
    }


def exists(table: sa.FromClause, condition: sa.ColumnElement[bool]) -> sa.Exists:
    return sa.exists(sa.select(sa.literal_column("1")).select_from(table).where(condition))


def param(name: str, column: sa.Column[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=column.type)


# One instant for a whole statement. Unlike `clock_timestamp()` it is stable, so an index can be searched for it.
NOW = sa.func.statement_timestamp()
APPOINTMENT_ID = param("appointment_id", appointments.c.id)
DOCTOR_ID = param("doctor_id", appointments.c.doctor_id)
PATIENT_ID = param("patient_id", appointments.c.patient_id)
EXPIRED_HOLD = sa.and_(appointments.c.status == sa.literal_column("'HELD'"), appointments.c.hold_expires_at <= NOW)
_OTHER = sa.and_(appointments.c.id != APPOINTMENT_ID, sa.not_(EXPIRED_HOLD))


def blocking(blocked: sa.ColumnElement[Any], during: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    """Return what meets the doctor's booked time, the doctor's overbooked time and the patient's time.

    Each of the three is one search of one partial index.
    """
    of_doctor = sa.and_(appointments.c.doctor_id == DOCTOR_ID, appointments.c.blocked.overlaps(blocked))
    of_patient = sa.and_(appointments.c.patient_id == PATIENT_ID, appointments.c.during.overlaps(during))
    return (
        sa.and_(of_doctor, _OTHER, sa.text(OCCUPIES_DOCTOR)),
        sa.and_(of_doctor, _OTHER, sa.text(OVERBOOKED)),
        sa.and_(of_patient, _OTHER, sa.text(OCCUPIES_TIME)),
    )


DOCTOR_BOOKED, DOCTOR_OVERBOOKED, PATIENT_BOOKED = blocking(TYPED_BLOCKED, TYPED_DURING)
# Not the claim's own: it can still become the appointment. Near the claim: which ones are in its way only the statement
# that joins the type knows, and dead ones serve nobody.
EXPIRED_HOLDS = sa.and_(
    EXPIRED_HOLD,
    appointments.c.id != APPOINTMENT_ID,
    sa.text(OCCUPIES_TIME),
    sa.or_(
        sa.and_(appointments.c.doctor_id == DOCTOR_ID, appointments.c.blocked.overlaps(LONGEST)),
        sa.and_(appointments.c.patient_id == PATIENT_ID, appointments.c.during.overlaps(LONGEST)),
    ),
)
# The doctor has met the patient: COMPLETED, or CONFIRMED and over.
_MET = sa.and_(
    appointments.c.doctor_id == DOCTOR_ID,
    appointments.c.patient_id == PATIENT_ID,
    appointments.c.starts_at < NOW,
    sa.or_(
        appointments.c.status == sa.literal_column("'COMPLETED'"),
        sa.and_(appointments.c.status == sa.literal_column("'CONFIRMED'"), appointments.c.ends_at <= NOW),
    ),
)

CALLER_ID = param("caller", users.c.id)
doctor, patient, caller = users.alias("doctor"), users.alias("patient"), users.alias("caller")
CALLER = (
    caller.c.role,
    sa.func.coalesce(caller.c.status == sa.literal_column("'SUSPENDED'"), sa.false()).label("suspended"),
    exists(
        revoked_sessions, revoked_sessions.c.session_id == param("caller_session", revoked_sessions.c.session_id)
    ).label("session_ended"),
)
_clock = sa.select(NOW.label("now")).subquery("clock")
_revision, _changed_at = schedule_exception_history.c.revision, schedule_exception_history.c.changed_at
# The last change of the doctor's exceptions; no row before the first.
last_exceptions = (
    sa.select(_revision.label("exceptions_revision"), _changed_at.label("exceptions_changed_at"))
    .where(schedule_exception_history.c.doctor_id == DOCTOR_ID)
    .order_by(_revision.desc())
    .limit(sa.literal_column("1"))
    .subquery("last_exceptions")
)
OBSTACLES = sa.select(
    _clock.c.now,
    *CALLER,
    doctor.c.role.label("doctor_role"),
    doctor.c.status.label("doctor_status"),
    doctor.c.full_name.label("doctor_name"),
    sa.func.coalesce(schedules.c.time_zone, doctor.c.time_zone).label("doctor_time_zone"),
    patient.c.role.label("patient_role"),
    patient.c.full_name.label("patient_name"),
    exists(appointments, PATIENT_BOOKED).label("patient_busy"),
    sa.or_(exists(appointments, DOCTOR_BOOKED), exists(appointments, DOCTOR_OVERBOOKED)).label("doctor_busy"),
    schedules.c.version.label("schedule_version"),
    schedules.c.updated_at.label("schedule_updated_at"),
    sa.func.coalesce(schedules.c.auto_confirm, sa.false()).label("auto_confirm"),
    schedules.c.open_appointments_per_patient,
    *last_exceptions.c,
    sa.case(
        (chosen.c.bookable_by == sa.literal_column("'KNOWN_PATIENTS'"), exists(appointments, _MET)), else_=sa.false()
    ).label("patient_known"),
    *chosen_type.COLUMNS,
).select_from(
    _clock.outerjoin(caller, caller.c.id == CALLER_ID)
    .outerjoin(doctor, doctor.c.id == DOCTOR_ID)
    .outerjoin(patient, patient.c.id == PATIENT_ID)
    .outerjoin(schedules, schedules.c.doctor_id == DOCTOR_ID)
    .outerjoin(last_exceptions, sa.true())
    .outerjoin(chosen, sa.true())
)
_count, _with_doctor = sa.func.count(), appointments.c.doctor_id == DOCTOR_ID
_seconds = sa.func.sum(sa.extract("epoch", appointments.c.ends_at - appointments.c.starts_at))


def _minutes(seconds: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(seconds, sa.literal_column("0")) / sa.literal_column("60"), sa.Integer)


_open = (
    sa.select(
        _count.filter(_with_doctor).label("appointments_with_doctor"),
        _minutes(_seconds.filter(_with_doctor)).label("minutes_with_doctor"),
        _count.label("appointments"),
        _minutes(_seconds).label("minutes"),
    )
    .where(appointments.c.patient_id == PATIENT_ID, appointments.c.starts_at > NOW)
    .where(sa.text(OCCUPIES_TIME), _OTHER)
    .subquery("open")
)
_OPEN_TIME = (
    # Null in rows from before the column: those accounts were opened when there was nothing to verify for.
    sa.func.coalesce(patient.c.email_verified, sa.true()),
    *_open.c,
)
# In one statement with the INSERT the holds would still refuse it, so they go in the one before.
_expired = sa.delete(appointments).where(EXPIRED_HOLDS).returning(appointments.c.id).cte("expired")
WITH_OPEN_TIME = OBSTACLES.add_columns(*_OPEN_TIME).join(_open, sa.true()).add_cte(_expired)
FIND = Statement(WITH_OPEN_TIME)
