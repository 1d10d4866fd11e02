from collections.abc import Callable
from uuid import UUID

from services.booking.availability import repository
from services.booking.availability.conflicts import HoursChange, OnConflict, Settle
from services.booking.availability.public_holidays import is_region
from services.booking.availability.rules import availability_of, schedule_of
from services.booking.availability.schedules import always_open
from services.booking.availability.schemas import Availability, AvailabilityUpdate
from services.booking.directory.service import Directory
from services.booking.time.locks import lock_time
from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError, Forbidden
from services.kit.http.preconditions import IfMatch
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota


def refuse_others(principal: Principal, doctor_id: UUID) -> None:
    if principal.role != Role.ADMIN and principal.id != doctor_id:
        raise Forbidden("Only this doctor and admins")


class AvailabilityService:
    def __init__(
        self,
        database: Database,
        directory: Directory,
        writes: Quota,
        settle: Settle,
        events_committed: Callable[[], None],
    ) -> None:
        self._database, self._directory, self._writes = database, directory, writes
        self._settle, self._events_committed = settle, events_committed

    async def replace(
        self,
        principal: Principal,
        doctor_id: UUID,
        wanted: AvailabilityUpdate,
        condition: IfMatch,
        on_conflict: OnConflict | None,
    ) -> Availability:
        """Return the availability as it is afterwards. What changes nothing leaves its version alone."""
        refuse_others(principal, doctor_id)
        if principal.role != Role.ADMIN:
            self._writes.take(principal.id)
        if wanted.public_holidays is not None and not await is_region(wanted.public_holidays):
            raise BadRequest(errors=[FieldError("publicHolidays", "No region that has known holidays")])
        await self._directory.ensure_known(doctor_id)

        async def work(connection: Connection) -> Availability | None:
            await lock_time(connection, doctor_id=doctor_id)
            now, time_zone = await repository.get_situation(connection, principal, doctor_id)
            before = await repository.find_schedule(connection, doctor_id)
            condition.check(availability_of(before).etag if before else None)
            after = schedule_of(doctor_id, wanted, before.version + 1 if before else 1, now)
            if before == after._replace(version=after.version - 1, updated_at=before.updated_at if before else now):
                return availability_of(before)
            _, _, exceptions = await repository.find_exceptions(connection, doctor_id)
            change = HoursChange(
                before=(before or always_open(doctor_id, time_zone))._replace(exceptions=exceptions),
                after=after._replace(exceptions=exceptions),
            )
            if not await self._settle(connection, principal, change, on_conflict):
                return None
            await repository.write(connection, after, principal)
            return availability_of(after)

        while (availability := await self._database.transact(work)) is None:
            pass
        self._events_committed()
        return availability
