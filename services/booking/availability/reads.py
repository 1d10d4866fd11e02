from collections.abc import Sequence
from uuid import UUID

import msgspec
import sqlalchemy as sa

from services.booking.availability import repository
from services.booking.availability.rules import availability_of
from services.booking.availability.schemas import Availability, AvailabilityChange
from services.booking.errors import DoctorNotFound, NoAvailability
from services.booking.models.schedules import schedule_history as history
from services.booking.models.schedules import schedules
from services.booking.time.obstacles import doctor
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement


class AvailabilityReads:
    """Reads of one statement each, on a connection of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, caller: Principal | None, doctor_id: UUID) -> Availability:
        rows = await self._database.fetch(GET, doctor_id=doctor_id)
        staff = caller is not None and (caller.id == doctor_id or caller.role == Role.ADMIN)
        if not rows or (rows[0]["doctor_status"] == UserStatus.PENDING and not staff):
            raise DoctorNotFound
        schedule = repository.schedule_of_rows(rows)
        if schedule is None:
            raise NoAvailability("Any future time of this doctor can be booked")
        return availability_of(schedule)

    async def history(self, doctor_id: UUID, *, limit: int, after_version: int) -> Sequence[AvailabilityChange]:
        """Return the changes after a version, oldest first."""
        found = await self._database.fetch(HISTORY, doctor_id=doctor_id, after_version=after_version, limit=limit)
        return [
            AvailabilityChange(
                version=version,
                changed_at=changed_at,
                actor_id=actor_id,
                actor_role=actor_role,
                availability=msgspec.convert(_OLDER | schedule, Availability),
            )
            for version, changed_at, actor_id, actor_role, schedule in found
        ]


# What the history lacks from before there were these fields.
_OLDER = {
    "autoConfirm": False,
    "cancellationCutoffMinutes": 0,
    "openAppointmentsPerPatient": None,
    "publicHolidays": None,
}
_doctors = doctor.outerjoin(schedules, schedules.c.doctor_id == doctor.c.id)
GET = Statement(
    sa.select(*repository.COLUMNS, doctor.c.status.label("doctor_status"))
    .select_from(repository.with_periods(_doctors))
    .where(doctor.c.id == repository.DOCTOR_ID, doctor.c.role == sa.literal_column("'DOCTOR'"))
    .order_by(*repository.ORDER)
)
HISTORY = Statement(
    sa.select(*(history.c[name] for name in ("version", "changed_at", "actor_id", "actor_role", "schedule")))
    .where(
        history.c.doctor_id == repository.DOCTOR_ID,
        history.c.version > sa.bindparam("after_version", type_=sa.BigInteger),
    )
    .order_by(history.c.version)
    .limit(sa.bindparam("limit", type_=sa.BigInteger))
)
