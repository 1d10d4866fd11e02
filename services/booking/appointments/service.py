from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import replace

from services.booking.appointments import repository
from services.booking.appointments.changes import Actor, Change
from services.booking.appointments.held_bookings import HeldBookings
from services.booking.appointments.rules import (
    OPEN,
    apply_update,
    claim_of,
    created,
    is_confirmed_at_once,
    new_appointment,
    refuse_malformed,
    terms_of,
)
from services.booking.appointments.schemas import Appointment, AppointmentCreate, AppointmentUpdate
from services.booking.availability.versions import ScheduleVersions
from services.booking.directory.service import Directory
from services.booking.idempotency import Answer, RequestKey, answer_once, find_answer
from services.booking.settings import Settings
from services.booking.slots.checks import REFUSALS, TimeCheck, look
from services.booking.time.chosen_type import TypeChoice
from services.booking.time.claims import MissedConflict, TimeClaims
from services.booking.time.locks import lock_time, time_locks
from services.booking.time.obstacles import Obstacles, find_obstacles
from services.booking.time.requests import refuse_past, wall_time
from services.contracts.enums import AppointmentStatus, Role
from services.kit.auth import Principal, check_caller
from services.kit.http.preconditions import IfMatch
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota


class BookingService:
    def __init__(
        self,
        database: Database,
        claims: TimeClaims,
        versions: ScheduleVersions,
        directory: Directory,
        bookings: Quota,
        writes: Quota,
        limits: Settings,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._database, self._claims, self._versions, self._directory = database, claims, versions, directory
        self._bookings, self._writes, self._limits = bookings, writes, limits
        self._events_committed = events_committed
        self._held = HeldBookings(database, claims, versions, limits)

    async def book(self, principal: Principal, wanted: AppointmentCreate, key: RequestKey | None) -> Answer:
        """Return the answer to this request, or to the first one with its key."""
        by_patient, counted = principal.role == Role.PATIENT, False
        claim, minutes = claim_of(principal, wanted), wanted.duration_minutes
        choice = TypeChoice(wanted.type_id, None if minutes is UNSET else minutes, by_patient)
        check = TimeCheck(self._versions, claim, by_patient=by_patient)
        await self._directory.ensure_known(claim.doctor_id, claim.patient_id)
        if wanted.hold_id is not None:
            take_quota = partial(self._take_quota, principal, books=True)
            answer = await self._held.book(principal, wanted, wanted.hold_id, key, take_quota=take_quota)
            self._events_committed()
            return answer

        async def peek(connection: Connection) -> Answer | None:
            """Answer most losers of a race without a lock, and so without waiting for the winner."""
            nonlocal counted
            obstacles, answered = await look(connection, claim, principal, key, choice)
            # Look for a stored answer first: an earlier attempt of this very request may hold the slot.
            if key and answered and (answer := await find_answer(connection, key)):
                return answer
            if not counted:  # once, however often the transaction is attempted; a replay writes nothing
                self._take_quota(principal, books=True)
                counted = True
            await refuse(connection, obstacles)
            return None

        async def refuse(connection: Connection, obstacles: Obstacles) -> None:
            check_caller(principal, obstacles.caller)
            refuse_past(claim.starts_at, obstacles.now)
            await check.refuse(connection, obstacles, overbook=wanted.overbook)

        async def create(connection: Connection) -> Answer:
            obstacles, open_time = await find_obstacles(connection, claim, principal, choice)
            await refuse(connection, obstacles)
            typed = check.claim
            if by_patient:
                length, doctors_limit = typed.ends_at - typed.starts_at, obstacles.open_appointments_per_patient
                open_time.check(self._limits, added=length, new=True, doctors_limit=doctors_limit)
            appointment = new_appointment(typed, wanted, obstacles)
            answer = created(appointment)
            change = Change(None, appointment, Actor.of(principal), wanted.reason)
            if not await repository.add(connection, change, terms_of(typed, obstacles.type), key, answer):
                raise MissedConflict
            return answer

        async def work(connection: Connection) -> Answer:
            locks = time_locks(doctor_id=claim.doctor_id, patient_id=claim.patient_id)
            return await answer_once(connection, key, partial(create, connection), locks=locks)

        try:
            answer = await self._claims.claim(work, before=peek)
        except REFUSALS as refusal:
            raise await check.with_alternatives(self._database, refusal) from None
        self._events_committed()
        return answer

    async def change(
        self, principal: Principal, appointment_id: UUID, update: AppointmentUpdate, condition: IfMatch
    ) -> Appointment:
        """Return the appointment as it is afterwards. An update that changes nothing leaves its version alone."""
        refuse_malformed(update)
        self._take_quota(principal, books=False)
        # Decided by the request alone: the locks on time come before the row that would tell more.
        may_claim = update.moves or (principal.role == Role.ADMIN and update.status in OPEN)
        check: TimeCheck | None = None

        async def work(connection: Connection) -> Appointment:
            nonlocal check
            if may_claim:
                doctor_id, patient_id = await repository.parties(connection, principal, appointment_id)
                await lock_time(connection, doctor_id=doctor_id, patient_id=patient_id)
            locked, known, cutoff = await repository.get_for_update(connection, principal, appointment_id)
            before, now, terms = locked
            check_caller(principal, known)
            condition.check(before.etag)
            after = apply_update(before, update, principal.role, now, cutoff)
            if after == before:
                return before
            moved = (after.starts_at, after.ends_at) != (before.starts_at, before.ends_at)
            if moved:
                refuse_past(after.starts_at, now)
            if moved or (after.status in OPEN and before.status not in OPEN):
                claim = locked.claim(after)
                obstacles, open_time = await find_obstacles(connection, claim)
                if moved:
                    check = TimeCheck(self._versions, claim, by_patient=principal.role == Role.PATIENT)
                    await check.refuse(connection, obstacles)
                else:  # a final status is corrected: that time was agreed on
                    obstacles.refuse()
                longer = (after.ends_at - after.starts_at) - (before.ends_at - before.starts_at)
                if principal.role == Role.PATIENT and longer > timedelta():
                    open_time.check(self._limits, added=after.ends_at - after.starts_at, new=False)
                after = replace(after, overbooked=False)
                if moved:
                    after = _in_zone(after, obstacles.doctor_time_zone)
                    if before.status == AppointmentStatus.CONFIRMED and is_confirmed_at_once(
                        terms.requires_confirmation, obstacles
                    ):
                        after = replace(after, status=before.status)
            after = replace(after, version=before.version + 1, updated_at=now)
            reason = None if update.reason is UNSET else update.reason
            await repository.write(connection, Change(before, after, Actor.of(principal), reason))
            return after

        try:
            after = await self._claims.claim(work)
        except REFUSALS as refusal:
            if check is None:
                raise
            raise await check.with_alternatives(self._database, refusal) from None
        self._events_committed()
        return after

    def _take_quota(self, principal: Principal, *, books: bool) -> None:
        """Count a write before it is attempted: each one adds rows that stay, and a refusal an audit entry."""
        if principal.role != Role.ADMIN:
            self._writes.take(principal.id)
        if books and principal.role == Role.PATIENT:
            self._bookings.take(principal.id)


def _in_zone(appointment: Appointment, doctor_time_zone: str | None) -> Appointment:
    time_zone = doctor_time_zone or appointment.time_zone
    return replace(appointment, time_zone=time_zone, local_starts_at=wall_time(appointment.starts_at, time_zone))
