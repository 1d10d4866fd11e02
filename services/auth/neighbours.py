"""What booking answers at its internal port."""

from datetime import datetime
from uuid import UUID

import msgspec

from services.contracts.enums import AppointmentStatus


class FutureAppointment(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    date_time: datetime
    status: AppointmentStatus


class FutureAppointments(msgspec.Struct, frozen=True):
    items: list[FutureAppointment]
