"""What booking answers at its internal port when auth asks for the upcoming appointments of a user."""

from uuid import UUID

import msgspec

from services.contracts.enums import AppointmentStatus
from services.contracts.events import Instant


class FutureAppointment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: UUID
    starts_at: Instant = msgspec.field(name="dateTime")
    status: AppointmentStatus


class FutureAppointments(msgspec.Struct, frozen=True):
    """The next appointments of one doctor or patient, earliest first. booking bounds their number."""

    items: list[FutureAppointment]
