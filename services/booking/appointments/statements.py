"""The SQL of appointments, as Core statements that are compiled once."""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, insert

from services.booking import models
from services.booking.idempotency import remember
from services.booking.models import appointment_history as history
from services.booking.models import appointments as a
from services.booking.models import idempotency_keys as keys
from services.booking.models import revoked_sessions, users
from services.contracts.enums import Role
from services.kit.postgres.database import Statement
from services.kit.postgres.outbox import insert_event
from services.kit.trail import tables as audit_log


def _param(name: str, column: sa.Column[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=column.type)


# The same instant throughout a statement, and of use to an index, which `clock_timestamp()` is not.
_NOW = sa.func.statement_timestamp()
_ID = _param("id", a.c.id)
_APPOINTMENT_ID = _param("appointment_id", a.c.id)
_DOCTOR_ID = _param("doctor_id", a.c.doctor_id)
_PATIENT_ID = _param("patient_id", a.c.patient_id)
_CALLER_ID = _param("caller", users.c.id)
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger)
_DURING = sa.func.tstzrange(_param("starts_at", a.c.starts_at), _param("ends_at", a.c.ends_at), type_=TSTZRANGE)
_HELD = a.c.status == sa.literal_column("'HELD'")
_PENDING = a.c.status == sa.literal_column("'PENDING'")
_PENDING_OR_CONFIRMED = sa.or_(_PENDING, a.c.status == sa.literal_column("'CONFIRMED'"))
_DEAD = sa.and_(_HELD, a.c.hold_expires_at <= _NOW)

_doctor, _patient, _caller = users.alias("doctor"), users.alias("patient"), users.alias("caller")

_SESSION_REVOKED = sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(revoked_sessions)
    .where(revoked_sessions.c.session_id == _param("caller_session", revoked_sessions.c.session_id))
).label("session_revoked")

# Reading

_VISIBLE: dict[str, sa.ColumnElement[bool]] = {
    Role.PATIENT: a.c.patient_id == _CALLER_ID,
    Role.DOCTOR: a.c.doctor_id == _CALLER_ID,
    Role.ADMIN: sa.true(),
}


def visible_to(role: str) -> sa.ColumnElement[bool]:
    """What somebody may see begins here. A held slot is nobody's appointment yet."""
    return sa.and_(a.c.status != sa.literal_column("'HELD'"), _VISIBLE[role])


_MINUTES = sa.cast(sa.extract("epoch", a.c.ends_at - a.c.starts_at) / sa.literal_column("60"), sa.Integer)
_VISIT = (
    a.c.id,
    a.c.patient_id,
    a.c.doctor_id,
    _patient.c.full_name.label("patient_name"),
    _doctor.c.full_name.label("doctor_name"),
    a.c.starts_at.label("date_time"),
    a.c.ends_at,
    _MINUTES.label("duration_minutes"),
    a.c.time_zone,
    a.c.wall_time.label("local_date_time"),
    a.c.status,
    a.c.notes,
    a.c.overbooked,
    a.c.cancellation_reason,
    a.c.version,
    a.c.created_at,
    a.c.updated_at,
)
_NAMED = a.outerjoin(_doctor, _doctor.c.id == a.c.doctor_id).outerjoin(_patient, _patient.c.id == a.c.patient_id)
_VISITS = sa.select(*_VISIT).select_from(_NAMED)
# Read again when the row had to be waited for, so that the history's times follow its versions.
_LOCKED = sa.select(*_VISIT, sa.func.clock_timestamp().label("now")).select_from(_NAMED)

GET: dict[str, Statement] = {role: Statement(_VISITS.where(a.c.id == _ID, visible_to(role))) for role in Role}
PARTIES: dict[str, Statement] = {
    role: Statement(sa.select(a.c.doctor_id, a.c.patient_id).where(a.c.id == _ID, visible_to(role))) for role in Role
}

_FILTERS = {
    "status": a.c.status == _param("status", a.c.status),
    "from_": a.c.starts_at >= _param("from_", a.c.starts_at),
    "to": a.c.starts_at < _param("to", a.c.starts_at),
    "doctor_id": a.c.doctor_id == _DOCTOR_ID,
    "patient_id": a.c.patient_id == _PATIENT_ID,
    "after": sa.tuple_(a.c.starts_at, a.c.id)
    < sa.tuple_(_param("after_start", a.c.starts_at), _param("after_id", a.c.id)),
}


@cache
def list_of(role: str, filters: frozenset[str]) -> Statement:
    """One statement per shape: a filter that is optional within one keeps the planner from its index."""
    return Statement(
        _VISITS.where(visible_to(role), *(_FILTERS[name] for name in sorted(filters)))
        .order_by(a.c.starts_at.desc(), a.c.id.desc())
        .limit(_LIMIT)
    )


HISTORY: dict[str, Statement] = {
    role: Statement(
        sa.select(
            history.c.version,
            history.c.changed_at,
            history.c.actor_id,
            history.c.actor_role,
            history.c.reason,
            history.c.before,
            history.c.after,
        )
        .select_from(history.join(a, a.c.id == history.c.appointment_id))
        .where(a.c.id == _ID, visible_to(role), history.c.version > sa.bindparam("after_version", type_=sa.BigInteger))
        .order_by(history.c.version)
        .limit(_LIMIT)
    )
    for role in Role
}
_COMES = sa.and_(_PENDING_OR_CONFIRMED, a.c.starts_at > _NOW)
# By the role of the person whose they are.
_FUTURE = {
    Role.DOCTOR: sa.and_(a.c.doctor_id == _DOCTOR_ID, _COMES),
    Role.PATIENT: sa.and_(a.c.patient_id == _PATIENT_ID, _COMES),
}
_TIMES = sa.select(a.c.id, a.c.starts_at, a.c.status).order_by(a.c.starts_at).limit(_LIMIT)
FUTURE: dict[Role, Statement] = {role: Statement(_TIMES.where(theirs)) for role, theirs in _FUTURE.items()}

# Occupying time

_OTHER = sa.and_(a.c.id != _APPOINTMENT_ID, sa.not_(_DEAD))
_OF_DOCTOR = sa.and_(a.c.doctor_id == _DOCTOR_ID, a.c.blocked.overlaps(_DURING), _OTHER)
_OF_PATIENT = sa.and_(a.c.patient_id == _PATIENT_ID, a.c.during.overlaps(_DURING), _OTHER)
# Each of the three is one look into one partial index.
_DOCTOR_BOOKED = sa.and_(_OF_DOCTOR, sa.text(models.OCCUPIES_DOCTOR))
_DOCTOR_OVERBOOKED = sa.and_(_OF_DOCTOR, sa.text(models.OVERBOOKED))
_PATIENT_BOOKED = sa.and_(_OF_PATIENT, sa.text(models.OCCUPIES_TIME))


def _exists(condition: sa.ColumnElement[bool]) -> sa.Exists:
    return sa.exists(sa.select(sa.literal_column("1")).select_from(a).where(condition))


_clock = sa.select(_NOW.label("now")).subquery("clock")
_LOOKED = sa.select(
    _clock.c.now,
    _caller.c.role.label("caller_role"),
    _caller.c.status.label("caller_status"),
    _SESSION_REVOKED,
    _doctor.c.role.label("doctor_role"),
    _doctor.c.status.label("doctor_status"),
    _doctor.c.full_name.label("doctor_name"),
    _doctor.c.time_zone.label("doctor_time_zone"),
    _patient.c.role.label("patient_role"),
    _patient.c.full_name.label("patient_name"),
    _exists(_PATIENT_BOOKED).label("patient_busy"),
    sa.or_(_exists(_DOCTOR_BOOKED), _exists(_DOCTOR_OVERBOOKED)).label("doctor_busy"),
    keys.c.fingerprint.is_not(None).label("request_answered"),
).select_from(
    _clock.outerjoin(_caller, _caller.c.id == _CALLER_ID)
    .outerjoin(_doctor, _doctor.c.id == _DOCTOR_ID)
    .outerjoin(_patient, _patient.c.id == _PATIENT_ID)
    .outerjoin(
        keys,
        sa.and_(
            keys.c.user_id == _CALLER_ID,
            keys.c.route == _param("key_route", keys.c.route),
            keys.c.key == _param("key", keys.c.key),
        ),
    )
)
# Deleted in a statement of their own before the INSERT, because within one statement they would still refuse it.
_dead_holds = (
    sa.delete(a)
    .where(
        _DEAD,
        sa.text(models.OCCUPIES_TIME),
        sa.or_(
            sa.and_(a.c.doctor_id == _DOCTOR_ID, a.c.blocked.overlaps(_DURING)),
            sa.and_(a.c.patient_id == _PATIENT_ID, a.c.during.overlaps(_DURING)),
        ),
    )
    .returning(a.c.id)
    .cte("dead_holds")
)
PEEK = Statement(_LOOKED)
LOOK = Statement(_LOOKED.add_cte(_dead_holds))

_doctors_time = sa.select(sa.func.lower(a.c.blocked).label("starts_at"), sa.func.upper(a.c.blocked).label("ends_at"))
_busy = sa.union_all(
    _doctors_time.where(_DOCTOR_BOOKED),
    _doctors_time.where(_DOCTOR_OVERBOOKED),
    sa.select(a.c.starts_at, a.c.ends_at).where(_PATIENT_BOOKED),
).subquery("busy")
BUSY = Statement(sa.select(_busy.c.starts_at, _busy.c.ends_at).order_by(_busy.c.starts_at).limit(_LIMIT))

# Changing


def _locked(query: sa.Select[Any], *, skip_locked: bool = False) -> Statement:
    return Statement(query.with_for_update(of=a, skip_locked=skip_locked))


GET_FOR_UPDATE: dict[str, Statement] = {
    role: _locked(
        _LOCKED.add_columns(
            _caller.c.role.label("caller_role"), _caller.c.status.label("caller_status"), _SESSION_REVOKED
        )
        .outerjoin_from(a, _caller, _caller.c.id == _CALLER_ID)
        .where(a.c.id == _ID, visible_to(role))
    )
    for role in Role
}
FUTURE_FOR_UPDATE: dict[Role, Statement] = {
    role: _locked(_LOCKED.where(theirs).order_by(a.c.starts_at).limit(_LIMIT)) for role, theirs in _FUTURE.items()
}
UNANSWERED_FOR_UPDATE = _locked(
    _LOCKED.where(_PENDING, a.c.starts_at <= _NOW).order_by(a.c.starts_at).limit(_LIMIT), skip_locked=True
)

_OTHER_RULES = sa.and_(_COMES, a.c.tzdata_version != _param("tzdata_version", a.c.tzdata_version))
PLANNED_UNDER_OTHER_RULES = Statement(
    sa.select(a.c.id, a.c.doctor_id, a.c.patient_id, a.c.starts_at, a.c.wall_time, a.c.time_zone)
    .where(_OTHER_RULES, a.c.id > _param("after_id", a.c.id))
    .order_by(a.c.id)
    .limit(_LIMIT)
)
PLANNED_FOR_UPDATE = _locked(_LOCKED.where(a.c.id == _ID, _COMES, a.c.starts_at == _param("starts_at", a.c.starts_at)))
CONFIRM_RULES = Statement(
    sa.update(a)
    .where(a.c.id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid))), _OTHER_RULES)
    .values(tzdata_version=_param("tzdata_version", a.c.tzdata_version))
)

_STATE = {
    "status": _param("appointment_status", a.c.status),
    "overbooked": _param("overbooked", a.c.overbooked),
    "notes": _param("notes", a.c.notes),
    "cancellation_reason": _param("cancellation_reason", a.c.cancellation_reason),
    "version": _param("version", a.c.version),
    "updated_at": _param("changed_at", a.c.updated_at),
}
_PLACE = {
    "during": _DURING,
    "blocked": _DURING,
    "time_zone": _param("time_zone", a.c.time_zone),
    "wall_time": _param("wall_time", a.c.wall_time),
    "tzdata_version": _param("tzdata_version", a.c.tzdata_version),
}


def _told(changed: sa.CTE, *more: sa.CTE) -> Statement:
    """The rows that `changed` returns, with a history entry, an event and an audit entry for each."""
    entry = {
        "appointment_id": changed.c.id,
        "version": _param("version", history.c.version),
        "changed_at": _param("changed_at", history.c.changed_at),
        "actor_id": _param("actor_id", history.c.actor_id),
        "actor_role": _param("actor_role", history.c.actor_role),
        "reason": _param("reason", history.c.reason),
        "before": sa.bindparam("state_before", type_=JSONB),
        "after": sa.bindparam("state_after", type_=JSONB),
    }
    written = sa.insert(history).from_select(list(entry), sa.select(*entry.values()).select_from(changed)).cte("entry")
    event = insert_event(models.outbox, for_each=changed).cte("event")
    audited = audit_log.insert_entry(models.audit_log, for_each=changed).cte("audited")
    return Statement(sa.select(changed.c.id).add_cte(written, event, audited, *more))


_added = (
    insert(a)
    .values(
        id=_APPOINTMENT_ID,
        doctor_id=_DOCTOR_ID,
        patient_id=_PATIENT_ID,
        created_at=_param("changed_at", a.c.created_at),
        **_STATE,
        **_PLACE,
    )
    .on_conflict_do_nothing()
    .returning(a.c.id)
    .cte("added")
)
ADD = _told(_added)
ADD_WITH_KEY = _told(_added, remember(_added).cte("key"))


def _changed(**values: Any) -> sa.CTE:
    return (
        sa.update(a)
        .where(a.c.id == _APPOINTMENT_ID, a.c.version == _param("version", a.c.version) - sa.literal_column("1"))
        .values(values)
        .returning(a.c.id)
        .cte("changed")
    )


CHANGE = _told(_changed(**_STATE))
MOVE = _told(_changed(**_STATE, **_PLACE))


# Forgetting. The version stays, since nothing became of the visit, and what is told of it has none of these texts.
_TYPED = sa.and_(
    a.c.cancellation_reason.is_not(None),
    a.c.cancellation_reason != sa.func.all(sa.bindparam("codes", type_=sa.ARRAY(sa.Text))),
)
FORGET_TEXTS = Statement(
    sa.update(a)
    .where(a.c.patient_id == _PATIENT_ID, sa.or_(a.c.notes.is_not(None), _TYPED))
    .values(notes=sa.null(), cancellation_reason=sa.case((_TYPED, sa.null()), else_=a.c.cancellation_reason))
)
FORGET_HISTORY = Statement(sa.select(sa.func.forget_typed_texts(_PATIENT_ID)))
FORGET_ANSWERS = Statement(sa.delete(keys).where(keys.c.user_id == _CALLER_ID))
