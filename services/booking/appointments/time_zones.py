"""Wall times under new rules: when a time zone changes its rules, a visit keeps its clock time, not its instant."""

from datetime import UTC, datetime
from typing import Literal, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from services.booking.appointments.changes import SYSTEM, Change
from services.booking.appointments.repository import AppointmentRepository, Claim, Planned
from services.booking.appointments.rules import wall_time
from services.booking.time.locks import lock_time
from services.kit.postgres.database import Connection, Database
from services.kit.zones import zone

RULES_CHANGED = "time_zone_rules_changed"
_BATCH = 500

Outcome = Literal["moved", "conflict", "no_such_time"]


class Recheck(NamedTuple):
    """What became of a visit whose wall time is another instant now, or (`to` is None) none."""

    appointment_id: UUID
    outcome: Outcome
    starts_at: datetime
    to: datetime | None


def instant_of(wall: datetime, time_zone: str, near: datetime) -> datetime | None:
    """None for a time that the clock skips; of the two instants of one that it shows twice, the closest to `near`."""
    both = [wall.replace(tzinfo=zone(time_zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = [instant for instant in both if wall_time(instant, time_zone) == wall]
    return min(shown, key=lambda instant: abs(instant - near), default=None)


class TimeZoneRecheck:
    def __init__(self, database: Database, repository: AppointmentRepository) -> None:
        self._database, self._repository = database, repository

    async def run(self) -> list[Recheck]:
        """For the visits to come that were agreed on under other rules; what cannot be moved stays as it is."""
        affected: list[tuple[Planned, datetime]] = []
        done: list[Recheck] = []
        after = UUID(int=0)
        while batch := await self._repository.planned_under_other_rules(after, _BATCH):
            after = batch[-1].id
            unchanged: list[UUID] = []
            for visit in batch:
                to = instant_of(visit.wall_time, visit.time_zone, visit.starts_at)
                if to == visit.starts_at:
                    unchanged.append(visit.id)
                elif to is None:
                    done.append(Recheck(visit.id, "no_such_time", visit.starts_at, None))
                else:
                    affected.append((visit, to))
            await self._repository.confirm_rules(unchanged)
        return done + await self._move_all(affected)

    async def _move_all(self, affected: list[tuple[Planned, datetime]]) -> list[Recheck]:
        """Goes round while anything moves: a visit may have to wait for its neighbour to make room."""
        done: list[Recheck] = []
        # In the direction of the shift the farthest first: most visits then find their new place free at once.
        waiting = sorted(
            affected, key=lambda one: (one[1] - one[0].starts_at) * one[0].starts_at.timestamp(), reverse=True
        )
        while waiting:
            still: list[tuple[Planned, datetime]] = []
            for visit, to in waiting:
                outcome = await self._move(visit, to)
                if outcome == "conflict":
                    still.append((visit, to))
                elif outcome == "moved":
                    done.append(Recheck(visit.id, "moved", visit.starts_at, to))
            if len(still) == len(waiting):
                return done + [Recheck(visit.id, "conflict", visit.starts_at, to) for visit, to in still]
            waiting = still
        return done

    async def _move(self, planned: Planned, to: datetime) -> Literal["moved", "conflict", "settled"]:
        async def work(connection: Connection) -> Literal["moved", "conflict", "settled"]:
            await lock_time(connection, doctor_id=planned.doctor_id, patient_id=planned.patient_id)
            locked = await self._repository.planned_for_update(connection, planned)
            if locked is None:
                return "settled"  # cancelled or moved by somebody meanwhile
            visit = locked.visit
            ends_at = to + (visit.ends_at - visit.date_time)
            claim = Claim(visit.id, visit.doctor_id, visit.patient_id, to, ends_at)
            look = await self._repository.look(connection, claim)
            if look.patient_busy or (look.doctor_busy and not visit.overbooked):
                return "conflict"
            after = replace(visit, date_time=to, ends_at=ends_at, version=visit.version + 1, updated_at=locked.now)
            await self._repository.write(connection, Change(visit, after, SYSTEM, RULES_CHANGED))
            return "moved"

        return await self._database.transact(work)
