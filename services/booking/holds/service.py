from datetime import timedelta
from functools import partial
from uuid import UUID

import msgspec
from msgspec import UNSET

from services.booking.availability.versions import ScheduleVersions
from services.booking.directory.service import Directory
from services.booking.errors import TooManyOpen
from services.booking.holds import repository
from services.booking.holds.schemas import Hold, HoldCreate
from services.booking.idempotency import Answer, RequestKey, answer_once, find_answer
from services.booking.settings import Settings
from services.booking.slots.checks import REFUSALS, TimeCheck, look
from services.booking.time.chosen_type import TypeChoice
from services.booking.time.claims import MissedConflict, TimeClaims
from services.booking.time.fields import DEFAULT_MINUTES
from services.booking.time.locks import time_locks
from services.booking.time.obstacles import Claim, Obstacles
from services.booking.time.requests import refuse_past, requested_claim, wall_time
from services.contracts.enums import Role
from services.kit.auth import Principal, check_caller
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota

# So many that a patient can compare times, and so few that nobody takes a calendar without booking.
HOLDS_PER_PATIENT = 3


class HoldService:
    def __init__(
        self,
        database: Database,
        claims: TimeClaims,
        versions: ScheduleVersions,
        directory: Directory,
        writes: Quota,
        limits: Settings,
    ) -> None:
        self._database, self._claims, self._versions, self._directory = database, claims, versions, directory
        self._writes, self._limits = writes, limits

    async def hold(self, principal: Principal, wanted: HoldCreate, key: RequestKey | None) -> Answer:
        """Return the answer to this request, or to the first one with its key."""
        by_patient, counted = principal.role == Role.PATIENT, False
        minutes = None if wanted.duration_minutes is UNSET else wanted.duration_minutes
        choice = TypeChoice(wanted.type_id, minutes, by_patient)
        claim = requested_claim(
            principal, wanted.doctor_id, wanted.patient_id, wanted.starts_at, minutes or DEFAULT_MINUTES
        )
        check = TimeCheck(self._versions, claim, by_patient=by_patient)
        await self._directory.ensure_known(claim.doctor_id, claim.patient_id)

        async def peek(connection: Connection) -> Answer | None:
            """Answer most losers of a race without a lock, as a booking does."""
            nonlocal counted
            obstacles, answered = await look(connection, claim, principal, key, choice)
            if key and answered and (answer := await find_answer(connection, key)):
                return answer
            if not counted:
                self._take_quota(principal)
                counted = True
            await refuse(connection, obstacles)
            return None

        async def refuse(connection: Connection, obstacles: Obstacles) -> None:
            check_caller(principal, obstacles.caller)
            refuse_past(claim.starts_at, obstacles.now)
            await check.refuse(connection, obstacles)

        async def create(connection: Connection) -> Answer:
            obstacles, open_time, holds = await repository.find_obstacles(connection, claim, principal, choice)
            await refuse(connection, obstacles)
            if holds >= HOLDS_PER_PATIENT:
                raise TooManyOpen(f"At most {HOLDS_PER_PATIENT} times are held for a patient at once")
            typed = check.claim
            if by_patient:
                length, doctors_limit = typed.ends_at - typed.starts_at, obstacles.open_appointments_per_patient
                open_time.check(self._limits, added=length, new=True, doctors_limit=doctors_limit)
            hold = _new_hold(typed, wanted, obstacles)
            body = msgspec.json.encode(hold)
            answer = Answer(status=201, location=f"/api/holds/{hold.id}", body=body, stored=True)
            if not await repository.add(connection, hold, obstacles.type, principal, key, answer):
                raise MissedConflict
            return answer

        async def work(connection: Connection) -> Answer:
            locks = time_locks(doctor_id=claim.doctor_id, patient_id=claim.patient_id)
            return await answer_once(connection, key, partial(create, connection), locks=locks)

        try:
            return await self._claims.claim(work, before=peek)
        except REFUSALS as refusal:
            raise await check.with_alternatives(self._database, refusal) from None

    async def release(self, principal: Principal, hold_id: UUID) -> None:
        """Free the time of a live hold. What only frees time takes no lock on it."""
        self._take_quota(principal)

        async def work(connection: Connection) -> None:
            check_caller(principal, await repository.get_caller(connection, principal))
            await repository.release(connection, principal, hold_id)

        await self._database.transact(work)

    def _take_quota(self, principal: Principal) -> None:
        if principal.role != Role.ADMIN:
            self._writes.take(principal.id)


def _new_hold(claim: Claim, wanted: HoldCreate, obstacles: Obstacles) -> Hold:
    time_zone = obstacles.doctor_time_zone or "UTC"
    return Hold(
        id=claim.appointment_id,
        patient_id=claim.patient_id,
        doctor_id=claim.doctor_id,
        starts_at=claim.starts_at,
        ends_at=claim.ends_at,
        type_id=obstacles.type.id,
        duration_minutes=(claim.ends_at - claim.starts_at) // timedelta(minutes=1),
        time_zone=time_zone,
        local_starts_at=wall_time(claim.starts_at, time_zone),
        # By the database's clock, which decides when it is over. Nobody can book a start that has passed.
        expires_at=min(obstacles.now + timedelta(minutes=wanted.hold_minutes), claim.starts_at),
        created_at=obstacles.now,
    )
