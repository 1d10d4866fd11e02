from uuid import UUID

from services.booking.availability import repository
from services.booking.availability.rules import availability_of, schedule_of
from services.booking.availability.schemas import Availability, AvailabilityUpdate
from services.booking.directory.service import Directory
from services.booking.errors import DoctorNotFound
from services.booking.time.locks import lock_time
from services.contracts.enums import Role
from services.kit.auth import Principal, check_caller
from services.kit.errors import Forbidden
from services.kit.http.preconditions import IfMatch
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota


def refuse_others(principal: Principal, doctor_id: UUID) -> None:
    if principal.role != Role.ADMIN and principal.id != doctor_id:
        raise Forbidden("Only this doctor and admins")


class AvailabilityService:
    def __init__(self, database: Database, directory: Directory, writes: Quota) -> None:
        self._database, self._directory, self._writes = database, directory, writes

    async def replace(
        self, principal: Principal, doctor_id: UUID, wanted: AvailabilityUpdate, condition: IfMatch
    ) -> Availability:
        """Return the availability as it is afterwards. What changes nothing leaves its version alone."""
        refuse_others(principal, doctor_id)
        if self._writes.limit and principal.role != Role.ADMIN:
            self._writes.take(principal.id)
        await self._directory.ensure_known(doctor_id)

        async def work(connection: Connection) -> Availability:
            await lock_time(connection, doctor_id=doctor_id)
            now, caller, doctor_role = await repository.get_situation(connection, principal, doctor_id)
            check_caller(principal, caller)
            if doctor_role != Role.DOCTOR:
                raise DoctorNotFound
            before = await repository.find_schedule(connection, doctor_id)
            condition.check(availability_of(before).etag if before else None)
            after = schedule_of(doctor_id, wanted, before.version + 1 if before else 1, now)
            if before == after._replace(version=after.version - 1, updated_at=before.updated_at if before else now):
                return availability_of(before)
            await repository.write(connection, after, principal)
            return availability_of(after)

        return await self._database.transact(work)
