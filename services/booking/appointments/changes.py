"""A change of an appointment, and what is written with it: its history row, its event and its audit entry."""

from typing import Any, NamedTuple
from uuid import UUID

import msgspec

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
from services.kit.trail.entry import entry


class Actor(NamedTuple):
    id: UUID | None
    role: str
    session_id: UUID | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Actor":
        return cls(principal.id, principal.role, principal.session_id)


SYSTEM = Actor(None, "SYSTEM")
# A history row stores what changed. These versions store all fields, so that a page reads few rows before its first.
WHOLE_EVERY = 50


class Change(NamedTuple):
    """`before` is None for a new appointment; `after` has the new version. The system's `reason` is a code."""

    before: Appointment | None
    after: Appointment
    actor: Actor
    reason: str | None = None

    @property
    def moves(self) -> bool:
        return self.before is not None and (
            (self.before.starts_at, self.before.ends_at) != (self.after.starts_at, self.after.ends_at)
        )

    @property
    def _cancels(self) -> bool:
        before = self.before and self.before.status
        return self.after.status == AppointmentStatus.CANCELLED != before

    def history(self) -> dict[str, Any]:
        """Return the history row, whose version and time are those of `after`."""
        after = _state(self.after)
        whole = self.before is None or self.after.version % WHOLE_EVERY == 0
        before = {} if self.before is None or whole else _state(self.before)
        return {
            "actor_id": self.actor.id,
            "actor_role": self.actor.role,
            "reason": self.reason,
            "changes": {name: value for name, value in after.items() if name not in before or value != before[name]},
        }

    def audit(self) -> dict[str, Any]:
        return entry(
            self._action(),
            actor_id=self.actor.id,
            actor_role=self.actor.role,
            session_id=self.actor.session_id,
            target_type="appointment",
            target_id=self.after.id,
        )

    def _action(self) -> str:
        if self.before is None:
            return "appointment.overbooked" if self.after.overbooked else "appointment.created"
        if self.before.status not in OPEN and self.after.status != self.before.status:
            return "appointment.corrected"
        if self.moves:
            return "appointment.rescheduled"
        return "appointment.cancelled" if self._cancels else "appointment.changed"

    def event(self) -> AppointmentEvent:
        """Return the outbox row's event, for other services and for a waitlist.

        No other place says that time was freed: `AppointmentCancelled` frees all of it, and `AppointmentRescheduled`
        what the appointment occupied before.
        """
        after = self.after
        facts: dict[str, Any] = {
            "appointment_id": after.id,
            "patient_id": after.patient_id,
            "doctor_id": after.doctor_id,
            "starts_at": after.starts_at,
            "ends_at": after.ends_at,
            "time_zone": after.time_zone,
            "status": after.status,
            "version": after.version,
            "actor_id": self.actor.id,
        }
        if self.before is None:
            return AppointmentCreated(**facts)
        if self.moves:
            return AppointmentRescheduled(**facts, previous_starts_at=self.before.starts_at)
        if self._cancels:
            return AppointmentCancelled(**facts, reason_code=self.reason if self.actor == SYSTEM else None)
        return AppointmentUpdated(**facts)


def _state(appointment: Appointment) -> dict[str, Any]:
    """Return the fields that can change, as the wire has them."""
    state = AppointmentState(**{name: getattr(appointment, name) for name in AppointmentState.__struct_fields__})
    return dict(msgspec.to_builtins(state))
