"""The time of a claim in SQL: what it takes of the patient, and with the buffers of the doctor."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSTZRANGE

from services.booking.models.appointments import appointments
from services.booking.time.chosen_type import MINUTES, chosen

_STARTS_AT, _ENDS_AT = (sa.bindparam(name, type_=appointments.c[name].type) for name in ("starts_at", "ends_at"))
BEFORE, AFTER = (sa.bindparam(name, type_=sa.Interval) for name in ("buffer_before", "buffer_after"))


def time_range(begin: sa.ColumnElement[Any], end: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.tstzrange(begin, end, type_=TSTZRANGE)


def _hours(number: int) -> sa.ColumnElement[Any]:
    return sa.literal_column(f"interval '{number} hours'", sa.Interval)


DURING = time_range(_STARTS_AT, _ENDS_AT)
BLOCKED = time_range(_STARTS_AT - BEFORE, _ENDS_AT + AFTER)
# The same in a statement that joins `chosen`: with the length and the buffers of that type, if there is one.
_typed_end = sa.func.coalesce(_STARTS_AT + sa.case((MINUTES.is_(None), chosen.c.duration)), _ENDS_AT)
TYPED_DURING = time_range(_STARTS_AT, _typed_end)
TYPED_BLOCKED = time_range(
    _STARTS_AT - sa.func.coalesce(chosen.c.buffer_before, BEFORE),
    _typed_end + sa.func.coalesce(chosen.c.buffer_after, AFTER),
)
# The buffers of an appointment that is booked.
BUFFER_BEFORE = sa.func.lower(appointments.c.during) - sa.func.lower(appointments.c.blocked)
BUFFER_AFTER = sa.func.upper(appointments.c.blocked) - sa.func.upper(appointments.c.during)
# No claim takes more, whatever its type: eight hours, with four before and four after.
LONGEST = time_range(_STARTS_AT - _hours(4), _STARTS_AT + _hours(12))
