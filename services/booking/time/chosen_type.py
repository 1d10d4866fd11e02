"""The appointment type of a claim: the one that the request names, or the default for a patient who names none."""

from datetime import timedelta
from secrets import token_hex
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.booking.errors import TypeNotFound, TypeUnavailable
from services.booking.models.appointment_types import appointment_types as types
from services.contracts.enums import AppointmentMode, BookableBy
from services.kit.errors import BadRequest, FieldError


class TypeChoice(NamedTuple):
    """What a request says about the type: its id, and the appointment's length if that is named.

    A patient who names no id gets the first active type, by position, that everyone may book, of that length if one is
    named. Nobody else gets a default.
    """

    id: UUID | None = None
    minutes: int | None = None
    by_patient: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """Return the parameters of `chosen`."""
        return {"type_id": self.id, "type_minutes": self.minutes, "by_patient": self.by_patient}


NO_CHOICE = TypeChoice()


class ChosenType(NamedTuple):
    """The type that `chosen` found; all but the first and the last field are None without one."""

    choice: TypeChoice
    id: UUID | None
    name: str | None
    mode: AppointmentMode | None
    price: str | None
    duration: timedelta | None
    buffer_before: timedelta | None
    buffer_after: timedelta | None
    requires_confirmation: bool | None
    bookable_by: BookableBy | None
    join_url_template: str | None
    active: bool | None
    doctor_has_types: bool

    @property
    def buffers(self) -> tuple[timedelta, timedelta]:
        return self.buffer_before or timedelta(), self.buffer_after or timedelta()

    def new_join_url(self) -> str | None:
        """Return a link to a room of its own. Whoever has not been sent it cannot guess it."""
        template = self.join_url_template
        return template and template.replace("{room}", token_hex(16))

    def refuse(self) -> None:
        """Raise what keeps the type from being booked by anyone, or with the length that a patient names."""
        choice = self.choice
        if self.duration is None:
            if choice.id is not None:
                raise TypeNotFound
            if not self.doctor_has_types:
                return
            if choice.minutes is not None:
                raise _wrong_length("No appointment type that everyone may book takes so long")
            raise TypeUnavailable("The doctor has no appointment type that everyone may book: name a `typeId`")
        if not self.active:
            raise TypeUnavailable("The doctor no longer offers this appointment type")
        minutes = self.duration // timedelta(minutes=1)
        if choice.by_patient and choice.minutes not in (None, minutes):
            raise _wrong_length(f"Appointments of this type take {minutes} minutes")

    def refuse_patient(self, *, known: bool) -> None:
        """Raise `TypeUnavailable` for a patient who may not book it; `known` ones have been with the doctor."""
        if self.choice.by_patient and self.bookable_by == BookableBy.STAFF:
            raise TypeUnavailable("Only the doctor and admins book this appointment type")
        if self.choice.by_patient and self.bookable_by == BookableBy.KNOWN_PATIENTS and not known:
            raise TypeUnavailable("Only patients who have had an appointment with the doctor book this type")


UNTYPED = ChosenType(NO_CHOICE, None, None, None, None, None, None, None, None, None, None, None, False)


def _wrong_length(message: str) -> BadRequest:
    return BadRequest(errors=[FieldError("durationMinutes", message)])


_DOCTOR_ID = sa.bindparam("doctor_id", type_=types.c.doctor_id.type)
_ID = sa.bindparam("type_id", type_=types.c.id.type)
_BY_PATIENT = sa.bindparam("by_patient", type_=sa.Boolean)
MINUTES = sa.bindparam("type_minutes", type_=sa.Integer)
_MINUTE = sa.literal_column("interval '1 minute'", sa.Interval)


def _minutes(column: sa.Column[int], name: str) -> sa.ColumnElement[timedelta]:
    return sa.type_coerce(column * _MINUTE, sa.Interval).label(name)


_DEFAULT = sa.and_(
    _ID.is_(None),
    _BY_PATIENT,
    types.c.active,
    types.c.bookable_by == sa.literal_column("'EVERYONE'"),
    sa.or_(MINUTES.is_(None), types.c.duration_minutes == MINUTES),
)
chosen = (
    sa.select(
        types.c.id,
        types.c.name,
        types.c.mode,
        sa.cast(types.c.price, sa.Text).label("price"),
        _minutes(types.c.duration_minutes, "duration"),
        _minutes(types.c.buffer_before_minutes, "buffer_before"),
        _minutes(types.c.buffer_after_minutes, "buffer_after"),
        types.c.requires_confirmation,
        types.c.bookable_by,
        types.c.join_url_template,
        types.c.active,
    )
    .where(types.c.doctor_id == _DOCTOR_ID, sa.or_(types.c.id == _ID, _DEFAULT))
    .order_by(types.c.position, types.c.id)
    .limit(sa.literal_column("1"))
    .subquery("chosen")
)
# The columns of a `ChosenType` after its choice. That the doctor has types matters only where none was found.
COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    *(column.label(f"chosen_{column.name}") for column in chosen.c),
    sa.case(
        (
            sa.and_(_BY_PATIENT, chosen.c.id.is_(None)),
            sa.exists(
                sa.select(sa.literal_column("1"))
                .select_from(types)
                .where(types.c.doctor_id == _DOCTOR_ID, types.c.active)
            ),
        ),
        else_=sa.false(),
    ).label("doctor_has_types"),
)
