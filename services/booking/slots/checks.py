"""Whether a claim may occupy its time: nothing is in its way, and the doctor's schedule allows it."""

from collections.abc import Callable
from datetime import datetime

from services.booking.availability.schedules import Schedule
from services.booking.availability.versions import ScheduleVersion, ScheduleVersions
from services.booking.errors import OutsideAvailability, SlotTaken, TooFar, TooSoon
from services.booking.idempotency import ANSWERED, RequestKey, key_values
from services.booking.slots.alternatives import alternatives_to
from services.booking.slots.engine import Rule, broken_rule
from services.booking.time.chosen_type import NO_CHOICE, TypeChoice
from services.booking.time.obstacles import OBSTACLES, Claim, Obstacles, obstacle_values
from services.kit.auth import Principal
from services.kit.errors import ProblemError
from services.kit.postgres.database import Connection, Database, Statement

REFUSALS = (SlotTaken, OutsideAvailability, TooSoon)  # these come with alternatives


async def look(
    connection: Connection,
    claim: Claim,
    principal: Principal,
    key: RequestKey | None,
    choice: TypeChoice = NO_CHOICE,
) -> tuple[Obstacles, bool]:
    """Read the obstacles without a lock, and whether the request was answered before.

    An obstacle found here is one; where there is none, one may exist by the time of the transaction.
    """
    row = await LOOK.fetchrow(connection, **obstacle_values(claim, principal, choice), **key_values(key))
    return Obstacles.of(row[:-1], choice), row[-1]


class TimeCheck:
    """The check of one claim, which remembers what it read for the alternatives to a refusal.

    After it `claim` has the length and the buffers of its type.
    """

    def __init__(self, versions: ScheduleVersions, claim: Claim, *, by_patient: bool) -> None:
        self._versions, self.claim, self._by_patient = versions, claim, by_patient
        self._schedule: Schedule | None = None
        self._now: datetime | None = None

    async def refuse(
        self,
        connection: Connection,
        obstacles: Obstacles,
        *,
        overbook: bool = False,
        asked_at: datetime | None = None,
    ) -> None:
        """Raise the error of the first obstacle or broken rule. Under the doctor's lock the schedule cannot change.

        Notice and horizon are counted from `asked_at`, or from now.
        """
        version = ScheduleVersion(
            obstacles.schedule_version,
            obstacles.schedule_updated_at,
            obstacles.exceptions_revision,
            obstacles.exceptions_changed_at,
            obstacles.doctor_time_zone,
        )
        schedule = await self._versions.get(connection, self.claim.doctor_id, version)
        self._schedule, self._now, self.claim = schedule, obstacles.now, obstacles.with_type(self.claim)
        obstacles.refuse(overbook=overbook)
        if schedule is not None and not overbook:
            start, end = self.claim.starts_at.timestamp(), self.claim.ends_at.timestamp()
            asked = int((asked_at or obstacles.now).timestamp())
            rule = broken_rule(schedule, start, end, asked, by_patient=self._by_patient)
            if rule is not None:
                raise _ERRORS[rule](schedule)

    async def with_alternatives(self, database: Database, refusal: ProblemError) -> ProblemError:
        if self._now is not None:
            found = await alternatives_to(database, self.claim, self._schedule, self._now)
            refusal.extra["alternatives"] = found
        return refusal


_ERRORS: dict[Rule, Callable[[Schedule], ProblemError]] = {
    Rule.TOO_SOON: lambda schedule: TooSoon(
        f"The doctor asks for {schedule.minimum_notice_minutes} minutes between the booking and the start"
    ),
    Rule.TOO_FAR: lambda schedule: TooFar(f"The doctor can be booked at most {schedule.horizon_days} days ahead"),
    Rule.OUTSIDE_AVAILABILITY: lambda schedule: OutsideAvailability("GET /api/slots lists the times that are free"),
}
LOOK = Statement(OBSTACLES.add_columns(ANSWERED.label("answered")))
