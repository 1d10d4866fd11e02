"""Bookings of times that are held: the hold's row becomes the appointment, and keeps its id."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from services.booking.appointments import repository
from services.booking.appointments.changes import Actor, Change
from services.booking.appointments.rules import claim_of, created, new_appointment, refuse_other_than_held
from services.booking.appointments.schemas import AppointmentCreate
from services.booking.availability.versions import ScheduleVersions
from services.booking.errors import HoldExpired, PatientBusy, SlotTaken
from services.booking.holds.repository import Held, find_held, look_at_hold
from services.booking.idempotency import Answer, RequestKey, answer_once, find_answer
from services.booking.settings import Settings
from services.booking.slots.checks import REFUSALS, TimeCheck, look
from services.booking.time.claims import TimeClaims
from services.booking.time.locks import time_locks
from services.booking.time.obstacles import Claim
from services.booking.time.requests import refuse_past
from services.contracts.enums import Role
from services.kit.auth import Principal, check_caller
from services.kit.errors import NotFound, ProblemError
from services.kit.postgres.database import Connection, Database


class HeldBookings:
    def __init__(self, database: Database, claims: TimeClaims, versions: ScheduleVersions, limits: Settings) -> None:
        self._database, self._claims, self._versions, self._limits = database, claims, versions, limits

    async def book(
        self,
        principal: Principal,
        wanted: AppointmentCreate,
        hold_id: UUID,
        key: RequestKey | None,
        *,
        take_quota: Callable[[], None],
    ) -> Answer:
        """Return the answer to this request, or to the first one with its key."""
        claim = claim_of(principal, wanted)
        try:
            found = await self._find(principal, hold_id, key, take_quota)
            if isinstance(found, Answer):
                return found
            refuse_other_than_held(wanted, claim, found)
            claim = found.occupying(claim)
            return await self._book(principal, wanted, claim._replace(appointment_id=hold_id), key)
        except HoldExpired:
            raise await self._refusal(principal, claim) from None

    async def _find(
        self, principal: Principal, hold_id: UUID, key: RequestKey | None, take_quota: Callable[[], None]
    ) -> Answer | Held:
        """Return the stored answer, or the hold; raises `HoldExpired` for one that is no longer a hold."""
        async with self._database.connection() as connection:
            caller, answered, held = await look_at_hold(connection, principal, hold_id, key)
            if key and answered and (answer := await find_answer(connection, key)):
                return answer
        take_quota()
        check_caller(principal, caller)
        if held is not None and not held.is_visible_to(principal):
            raise NotFound
        if held is None or not held.is_held:
            raise HoldExpired
        return held

    async def _book(
        self, principal: Principal, wanted: AppointmentCreate, claim: Claim, key: RequestKey | None
    ) -> Answer:
        by_patient = principal.role == Role.PATIENT
        check = TimeCheck(self._versions, claim, by_patient=by_patient)

        async def create(connection: Connection) -> Answer:
            obstacles, open_time, held = await find_held(connection, claim, principal)
            check_caller(principal, obstacles.caller)
            if held is None or not held.is_held:
                raise HoldExpired
            refuse_past(claim.starts_at, obstacles.now)
            if held.is_live:
                # The constraint lets nothing overlap it but what was overbooked since, and that gives way to nobody.
                obstacles = obstacles._replace(doctor_busy=False)
            try:
                await check.refuse(connection, obstacles, asked_at=held.held_at if held.is_live else None)
            except (SlotTaken, PatientBusy):
                raise HoldExpired from None
            if by_patient:
                length, doctors_limit = claim.ends_at - claim.starts_at, obstacles.open_appointments_per_patient
                open_time.check(self._limits, added=length, new=True, doctors_limit=doctors_limit)
            appointment = new_appointment(claim, wanted, obstacles._replace(type=held.type))
            answer = created(appointment)
            change = Change(None, appointment, Actor.of(principal), wanted.reason)
            if not await repository.book_held(connection, change, key, answer):
                raise HoldExpired  # released since it was read, which takes no lock on time
            return answer

        async def work(connection: Connection) -> Answer:
            locks = time_locks(doctor_id=claim.doctor_id, patient_id=claim.patient_id)
            return await answer_once(connection, key, partial(create, connection), locks=locks)

        try:
            return await self._claims.claim(work)
        except REFUSALS as refusal:
            raise await check.with_alternatives(self._database, refusal) from None

    async def _refusal(self, principal: Principal, claim: Claim) -> ProblemError:
        """Return the error for a hold that is gone. An unknown id is told from an expired hold by its time alone: the
        row of a hold is deleted when its time is taken.
        """
        check = TimeCheck(self._versions, claim, by_patient=principal.role == Role.PATIENT)
        async with self._database.connection() as connection:
            obstacles, _ = await look(connection, claim, principal, None)
            refuse_past(claim.starts_at, obstacles.now)
            try:
                await check.refuse(connection, obstacles)
            except (SlotTaken, PatientBusy):
                refusal: ProblemError = HoldExpired()
            except REFUSALS as other:
                refusal = other
            else:
                return NotFound("No such hold")
        return await check.with_alternatives(self._database, refusal)
