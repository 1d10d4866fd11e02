"""The appointments that a change of a doctor's hours leaves outside, or in a leave: listed, kept or cancelled."""

import sqlalchemy as sa

from services.booking.appointments import repository, rows
from services.booking.appointments.changes import Actor
from services.booking.appointments.repository import LOCKED, Locked, locked
from services.booking.appointments.system_cancellations import BATCH, DOCTOR_UNAVAILABLE, cancelled
from services.booking.availability.conflicts import HoursChange, OnConflict
from services.booking.errors import AppointmentsAffected
from services.booking.models.appointments import appointments
from services.booking.slots.engine import is_open
from services.booking.slots.wall_times import Span, leave_span
from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.postgres.database import Connection, Statement

LISTED = 100


async def settle_affected(
    connection: Connection, principal: Principal, change: HoursChange, on_conflict: OnConflict | None
) -> bool:
    """Raise `AppointmentsAffected`, keep or cancel what the change affects, under the doctor's lock: see `Settle`.

    Each call cancels a batch, so that no transaction runs into a time-out. The change itself is in the transaction of
    the last batch: if that fails, some appointments are cancelled and the request, sent again, cancels the rest.
    """
    if on_conflict == "keep":
        return True
    # Under the doctor's lock nothing is booked or moved. Some of them may be cancelled until their rows are locked.
    upcoming = await UPCOMING.fetch(connection, doctor_id=change.after.doctor_id)
    affected = [row for row in upcoming if _is_affected(change, (row["start"], row["end"]))]
    if affected and on_conflict is None:
        listed = [{"id": row["id"], "dateTime": row["starts_at"]} for row in affected[:LISTED]]
        raise AppointmentsAffected(appointments=listed, count=len(affected))
    batch = [row["id"] for row in affected[:BATCH]]
    if batch:
        found = [Locked.of(row) for row in await UPCOMING_FOR_UPDATE.fetch(connection, ids=batch)]
        actor = Actor.of(principal)
        await repository.write_all(connection, [cancelled(one, DOCTOR_UNAVAILABLE, actor) for one in found])
    return len(affected) <= BATCH


def _is_affected(change: HoursChange, appointment: Span) -> bool:
    """Tell about a leave whether it has a part of the appointment, and otherwise whether that was in the hours, and is
    not any more: what was outside before, because it was overbooked or kept, is no news.
    """
    if change.leave is not None:
        start, end = leave_span(change.after.time_zone, change.leave)
        return start < appointment[1] and appointment[0] < end
    return is_open(change.before, appointment) and not is_open(change.after, appointment)


def _seconds(instant: sa.ColumnElement[object]) -> sa.ColumnElement[int]:
    return sa.cast(sa.extract("epoch", instant), sa.BigInteger)


_id, _start, _end = appointments.c.id, appointments.c.starts_at, appointments.c.ends_at
UPCOMING = Statement(
    sa.select(_id, _start, _seconds(_start).label("start"), _seconds(_end).label("end"))
    .where(rows.UPCOMING_OF[Role.DOCTOR])
    .order_by(_start, _id)
)
UPCOMING_FOR_UPDATE = locked(
    LOCKED.where(rows.UPCOMING, _id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid)))).order_by(_start)
)
