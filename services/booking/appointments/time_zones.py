"""New rules of a time zone: an upcoming appointment keeps its wall time, and moves when that is now another instant."""

from datetime import UTC, datetime
from typing import Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from msgspec.structs import replace

from services.booking.appointments import repository, rows
from services.booking.appointments.changes import SYSTEM, Change
from services.booking.appointments.repository import LOCKED, Locked, locked
from services.booking.appointments.rows import appointment_of
from services.booking.appointments.schemas import Appointment
from services.booking.models.appointments import appointments
from services.booking.time.locks import lock_time
from services.booking.time.obstacles import find_obstacles, param
from services.booking.time.requests import wall_time
from services.kit.postgres.database import Connection, Database, Statement
from services.kit.zones import TZDATA_VERSION, zone

RULES_CHANGED = "time_zone_rules_changed"
_BATCH = 500

Outcome = Literal["moved", "conflict", "no_such_time"]


class Recheck(NamedTuple):
    """The outcome for an appointment whose wall time is now another instant, or (`to` is None) none at all."""

    appointment_id: UUID
    outcome: Outcome
    starts_at: datetime
    to: datetime | None


def instant_of(wall: datetime, time_zone: str, near: datetime) -> datetime | None:
    """Return None for a time that the clock skips, and of two instants with one wall time the one closer to `near`."""
    both = [wall.replace(tzinfo=zone(time_zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    existing = [instant for instant in both if wall_time(instant, time_zone) == wall]
    return min(existing, key=lambda instant: abs(instant - near), default=None)


class TimeZoneRecheck:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> list[Recheck]:
        """Move the upcoming appointments that were agreed on under other rules; leave those that cannot be moved."""
        affected: list[tuple[Appointment, datetime]] = []
        done: list[Recheck] = []
        values = {"after_id": UUID(int=0), "tzdata_version": TZDATA_VERSION, "limit": _BATCH}
        while batch := list(map(appointment_of, await self._database.fetch(_UPCOMING_UNDER_OTHER_RULES, **values))):
            values["after_id"] = batch[-1].id
            unchanged: list[UUID] = []
            for planned in batch:
                to = instant_of(planned.local_starts_at, planned.time_zone, planned.starts_at)
                if to == planned.starts_at:
                    unchanged.append(planned.id)
                elif to is None:
                    done.append(Recheck(planned.id, "no_such_time", planned.starts_at, None))
                else:
                    affected.append((planned, to))
            async with self._database.connection() as connection:
                await _CONFIRM_RULES.execute(connection, ids=unchanged, tzdata_version=TZDATA_VERSION)
        return done + await self._move_all(affected)

    async def _move_all(self, affected: list[tuple[Appointment, datetime]]) -> list[Recheck]:
        """Repeat while anything moves: an appointment may have to wait until its neighbour has made room."""
        done: list[Recheck] = []
        # Start with the farthest in the direction of the shift: most appointments then find their new place free.
        waiting = sorted(
            affected, key=lambda one: (one[1] - one[0].starts_at) * one[0].starts_at.timestamp(), reverse=True
        )
        while waiting:
            still: list[tuple[Appointment, datetime]] = []
            for planned, to in waiting:
                outcome = await self._move(planned, to)
                if outcome == "conflict":
                    still.append((planned, to))
                elif outcome == "moved":
                    done.append(Recheck(planned.id, "moved", planned.starts_at, to))
            if len(still) == len(waiting):
                return done + [Recheck(planned.id, "conflict", planned.starts_at, to) for planned, to in still]
            waiting = still
        return done

    async def _move(self, planned: Appointment, to: datetime) -> Literal["moved", "conflict", "settled"]:
        async def work(connection: Connection) -> Literal["moved", "conflict", "settled"]:
            await lock_time(connection, doctor_id=planned.doctor_id, patient_id=planned.patient_id)
            row = await _STILL_PLANNED_FOR_UPDATE.fetchrow(connection, id=planned.id, at=planned.starts_at)
            if row is None:
                return "settled"  # cancelled or moved in the meantime
            locked = Locked.of(row)
            before = locked.appointment
            ends_at = to + (before.ends_at - before.starts_at)
            after = replace(before, starts_at=to, ends_at=ends_at, version=before.version + 1, updated_at=locked.now)
            obstacles, _ = await find_obstacles(connection, locked.claim(after))
            if obstacles.patient_busy or (obstacles.doctor_busy and not before.overbooked):
                return "conflict"
            await repository.write(connection, Change(before, after, SYSTEM, RULES_CHANGED))
            return "moved"

        return await self._database.transact(work)


_id, _start = appointments.c.id, appointments.c.starts_at
_TZDATA_VERSION = param("tzdata_version", appointments.c.tzdata_version)
_UNDER_OTHER_RULES = sa.and_(rows.UPCOMING, appointments.c.tzdata_version != _TZDATA_VERSION)
_UPCOMING_UNDER_OTHER_RULES = Statement(
    rows.SELECT.where(_UNDER_OTHER_RULES, _id > param("after_id", _id)).order_by(_id).limit(rows.LIMIT)
)
_STILL_PLANNED_FOR_UPDATE = locked(LOCKED.where(rows.UPCOMING, _id == rows.ID, _start == param("at", _start)))
# Nothing about these appointments changed, so their version does not either.
_CONFIRM_RULES = Statement(
    sa.update(appointments)
    .where(_id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid))), _UNDER_OTHER_RULES)
    .values(tzdata_version=_TZDATA_VERSION)
)
