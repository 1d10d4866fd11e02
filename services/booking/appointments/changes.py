"""A change of an appointment, as its history and the other services are told of it."""

from typing import Any, NamedTuple
from uuid import UUID

from services.booking.appointments.rules import OPEN
from services.booking.appointments.schemas import Appointment, AppointmentState
from services.contracts.enums import AppointmentStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
)
from services.kit.auth import Principal


class Actor(NamedTuple):
    id: UUID | None
    role: str
    session_id: UUID | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Actor":
        return cls(principal.id, principal.role, principal.session_id)


SYSTEM = Actor(None, "SYSTEM")


class Change(NamedTuple):
    """`before` is None for a new appointment; `after` has the new version. The system's `reason` is a code."""

    before: Appointment | None
    after: Appointment
    actor: Actor
    reason: str | None = None

    @property
    def moves(self) -> bool:
        return self.before is not None and (
            (self.before.date_time, self.before.ends_at) != (self.after.date_time, self.after.ends_at)
        )

    @property
    def action(self) -> str:
        """The audit trail's word for it."""
        after = self.after
        if self.before is None:
            return "appointment.overbooked" if after.overbooked else "appointment.created"
        if self.before.status not in OPEN and after.status != self.before.status:
            return "appointment.corrected"
        if self.moves:
            return "appointment.rescheduled"
        if after.status == AppointmentStatus.CANCELLED != self.before.status:
            return "appointment.cancelled"
        return "appointment.changed"

    def event(self) -> AppointmentEvent:
        after = self.after
        facts: dict[str, Any] = {
            "appointment_id": after.id,
            "patient_id": after.patient_id,
            "doctor_id": after.doctor_id,
            "starts_at": after.date_time,
            "ends_at": after.ends_at,
            "time_zone": after.time_zone,
            "status": AppointmentStatus(after.status),
            "version": after.version,
            "actor_id": self.actor.id,
        }
        if self.before is None:
            return AppointmentCreated(**facts)
        if self.moves:
            return AppointmentRescheduled(**facts, previous_starts_at=self.before.date_time)
        if after.status == AppointmentStatus.CANCELLED != self.before.status:
            return AppointmentCancelled(**facts, reason_code=self.reason if self.actor == SYSTEM else None)
        return AppointmentUpdated(**facts)


def state(visit: Appointment) -> AppointmentState:
    return AppointmentState(**{name: getattr(visit, name) for name in AppointmentState.__struct_fields__})
