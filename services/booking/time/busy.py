"""What occupies a doctor and a patient for a while, for free times to offer."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from services.booking.models.appointments import appointments
from services.booking.time.obstacles import Claim, blocking
from services.booking.time.ranges import AFTER, BEFORE, BLOCKED, DURING
from services.kit.postgres.database import Database, Statement


async def busy_times(
    database: Database, claim: Claim, until: datetime, limit: int
) -> Sequence[tuple[datetime, datetime]]:
    """Return when the claim would meet the doctor's or the patient's other time, from its start to `until`, by start.

    The doctor's time is widened by the claim's buffers as `slots.engine.widened` does it.
    """
    rows = await database.fetch(BUSY, limit=limit, **claim._replace(ends_at=until)._asdict())
    return [(starts_at, ends_at) for starts_at, ends_at in rows]


_booked, _overbooked, _of_patient = blocking(BLOCKED, DURING)
_blocked = sa.select(
    (sa.func.lower(appointments.c.blocked) - AFTER).label("starts_at"),
    (sa.func.upper(appointments.c.blocked) + BEFORE).label("ends_at"),
)
_busy = sa.union_all(
    _blocked.where(_booked),
    _blocked.where(_overbooked),
    sa.select(appointments.c.starts_at, appointments.c.ends_at).where(_of_patient),
).subquery("busy")
BUSY = Statement(
    sa.select(_busy.c.starts_at, _busy.c.ends_at)
    .order_by(_busy.c.starts_at)
    .limit(sa.bindparam("limit", type_=sa.BigInteger))
)
