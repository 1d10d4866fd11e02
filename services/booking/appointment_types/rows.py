"""An appointment type as a row."""

from typing import Any

import sqlalchemy as sa

from services.booking.appointment_types.schemas import AppointmentType
from services.booking.models.appointment_types import appointment_types as types
from services.booking.time.obstacles import param
from services.contracts.enums import AppointmentMode, BookableBy

DOCTOR_ID, ID = param("doctor_id", types.c.doctor_id), param("id", types.c.id)
NAMES = AppointmentType.__struct_fields__
COLUMNS = [
    sa.cast(types.c.price, sa.Text).label("price") if name == "price" else types.c[name].label(name) for name in NAMES
]
ORDER = (types.c.position, types.c.id)


def type_of(row: Any) -> AppointmentType:
    """Convert a row that begins with `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=False))
    values |= {"mode": AppointmentMode(values["mode"]), "bookable_by": BookableBy(values["bookable_by"])}
    return AppointmentType(**values)
