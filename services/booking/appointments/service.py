from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter
from uuid_utils.compat import uuid7

from services.booking.appointments.changes import Actor, Change
from services.booking.appointments.preconditions import IfMatch
from services.booking.appointments.repository import AppointmentRepository, Claim, Locked, Look
from services.booking.appointments.rules import OPEN, revised, wall_time
from services.booking.appointments.schemas import Appointment, AppointmentCreate, AppointmentUpdate
from services.booking.directory.service import Directory
from services.booking.errors import (
    DoctorNotFound,
    DoctorUnavailable,
    PatientBusy,
    PatientNotFound,
    RequestInProgress,
    SlotTaken,
    TooFar,
)
from services.booking.idempotency import Answer, RequestKey, find_answer
from services.booking.time.alternatives import free_times
from services.booking.time.locks import lock_time, try_lock_request
from services.contracts.enums import AppointmentStatus, Role, UserStatus
from services.kit.auth import KnownCaller, Principal, check_caller
from services.kit.errors import BadRequest, FieldError, Forbidden, ProblemError
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.failures import sqlstate
from services.kit.quotas import Quota

T = TypeVar("T")

_TEN_YEARS = timedelta(days=3653)
_ALTERNATIVES_WITHIN = timedelta(days=14)
_BUSY_LIMIT = 500
_EXCLUSION_VIOLATION = "23P01"


class BookingService:
    def __init__(
        self,
        database: Database,
        repository: AppointmentRepository,
        directory: Directory,
        registry: CollectorRegistry,
        bookings: Quota,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._database, self._repository, self._directory = database, repository, directory
        self._bookings = bookings
        self._events_committed = events_committed
        self._unseen = Counter(
            "booking_unseen_conflicts_total",
            "Overlaps that only a constraint refused. Stays 0: anything else is a writer that does not take the locks",
            registry=registry,
        )

    async def book(self, principal: Principal, wish: AppointmentCreate, key: RequestKey | None) -> Answer:
        """The answer for this request, or for the first one with its key."""
        claim = _claim_of(principal, wish)
        await self._directory.meet(claim.doctor_id, claim.patient_id)

        async def peek(connection: Connection) -> Answer | None:
            """Answers most losers of a race without a lock, once they have waited for a connection."""
            look = await self._repository.peek(connection, claim, principal, key)
            # First of all: what now speaks against the request may be its own first success.
            if key and look.request_answered and (answer := await find_answer(connection, key)):
                return answer
            if principal.role == Role.PATIENT and self._bookings.limit:
                self._bookings.take(principal.id)  # not for a replay, which books nothing
            _refuse_booking(look, claim, principal, overbook=wish.overbook)
            return None

        async def work(connection: Connection) -> Answer:
            if key and not await try_lock_request(connection, str(key.user_id), key.route, key.key):
                raise RequestInProgress
            await lock_time(connection, doctor_id=claim.doctor_id, patient_id=claim.patient_id)
            look = await self._repository.look(connection, claim, principal, key)
            if key and look.request_answered and (answer := await find_answer(connection, key)):
                return answer
            _refuse_booking(look, claim, principal, overbook=wish.overbook)
            visit = _new_visit(claim, wish, look)
            answer = Answer(
                status=201,
                location=f"/api/appointments/{visit.id}",
                etag=visit.etag,
                body=msgspec.json.encode(visit),
            )
            change = Change(None, visit, Actor.of(principal), wish.reason)
            if not await self._repository.add(connection, change, key, answer):
                raise _Unseen
            return answer

        try:
            return await self._claim(work, unless=peek)
        except SlotTaken:
            raise await self._slot_taken(claim) from None

    async def change(
        self, principal: Principal, appointment_id: UUID, update: AppointmentUpdate, condition: IfMatch
    ) -> Appointment:
        """The appointment as it is then; one that is already as wanted stays as it is, its version too."""
        _refuse_shape(update)
        # Known from the request alone, as the locks on time come before the row that would tell more.
        may_claim = update.moves or (principal.role == Role.ADMIN and update.status in OPEN)
        claim: Claim | None = None

        async def work(connection: Connection) -> Appointment:
            nonlocal claim
            if may_claim:
                doctor_id, patient_id = await self._repository.parties(connection, principal, appointment_id)
                await lock_time(connection, doctor_id=doctor_id, patient_id=patient_id)
            locked = await self._repository.get_for_update(connection, principal, appointment_id)
            _refuse_caller(principal, locked)
            visit, now = locked.visit, locked.now
            condition.check(visit.etag)
            after = revised(visit, update, principal.role, now)
            if after == visit:
                return visit
            moved = (after.date_time, after.ends_at) != (visit.date_time, visit.ends_at)
            if moved:
                _refuse_past(after.date_time, now)
            if moved or (after.status in OPEN and visit.status not in OPEN):
                claim = Claim(visit.id, visit.doctor_id, visit.patient_id, after.date_time, after.ends_at)
                look = await self._repository.look(connection, claim)
                _refuse_obstacle(look)
                after = replace(after, overbooked=False)
                if moved:
                    after = _in_zone(after, look)
            after = replace(after, version=visit.version + 1, updated_at=now)
            reason = None if update.reason is UNSET else update.reason
            await self._repository.write(connection, Change(visit, after, Actor.of(principal), reason))
            return after

        try:
            return await self._claim(work)
        except SlotTaken:
            if claim is None or not update.moves:
                raise
            raise await self._slot_taken(claim) from None

    async def _claim(
        self,
        work: Callable[[Connection], Awaitable[T]],
        unless: Callable[[Connection], Awaitable[T | None]] | None = None,
    ) -> T:
        """Under the locks the look names whatever is in the way, so that the constraints have nothing left to refuse.

        When one does all the same, the look of a second try sees what it was.
        """
        refusal: ProblemError = SlotTaken()
        for _ in range(2):
            try:
                done = await self._database.transact(work, unless=unless)
                self._events_committed()
                return done
            except _Unseen:
                pass
            except (SlotTaken, PatientBusy) as error:
                if sqlstate(error.__cause__) != _EXCLUSION_VIOLATION:
                    raise
                refusal = error
            self._unseen.inc()
        raise refusal

    async def _slot_taken(self, claim: Claim) -> SlotTaken:
        until = claim.starts_at + _ALTERNATIVES_WITHIN
        busy = await self._repository.busy_times(claim, until, _BUSY_LIMIT)
        if len(busy) == _BUSY_LIMIT:
            until = busy[-1][0]
        return SlotTaken(alternatives=free_times(claim.starts_at, claim.ends_at - claim.starts_at, busy, until))


class _Unseen(Exception):
    """A constraint refused what the look had found free."""


def _claim_of(principal: Principal, wish: AppointmentCreate) -> Claim:
    """For whom somebody may book, whatever the state of things."""
    patient_id = wish.patient_id
    if principal.role == Role.PATIENT:
        if patient_id not in (None, principal.id):
            raise Forbidden("A patient books for nobody else")
        if wish.overbook:
            raise Forbidden("Only the doctor or an admin may overbook")
        patient_id = principal.id
    if principal.role == Role.DOCTOR and wish.doctor_id != principal.id:
        raise Forbidden("A doctor books in no other calendar")
    if patient_id is None:
        raise BadRequest(errors=[FieldError("patientId", "Required")])
    if wish.overbook and wish.reason is None:
        raise BadRequest(errors=[FieldError("reason", "Required to overbook")])
    _refuse_out_of_reach(wish.date_time)
    starts_at = wish.date_time.astimezone(UTC)
    return Claim(uuid7(), wish.doctor_id, patient_id, starts_at, starts_at + timedelta(minutes=wish.duration_minutes))


def _refuse_shape(update: AppointmentUpdate) -> None:
    if update.status is not UNSET and update.moves:
        raise BadRequest(errors=[FieldError("status", "Not together with dateTime or durationMinutes")])
    if update.reason is not UNSET and update.status is UNSET and not update.moves:
        raise BadRequest(errors=[FieldError("reason", "Only together with what it is the reason for")])
    if update.date_time is not UNSET:
        _refuse_out_of_reach(update.date_time)


def _refuse_out_of_reach(starts_at: datetime) -> None:
    """Keeps the calendar's arithmetic within its range. Of the recent past only the database's clock decides."""
    now = datetime.now(UTC)
    if starts_at > now + _TEN_YEARS:
        raise TooFar
    if starts_at < now - _TEN_YEARS:
        _refuse_past(starts_at, now)


def _refuse_past(starts_at: datetime, now: datetime) -> None:
    if starts_at <= now:
        raise BadRequest(errors=[FieldError("dateTime", "Expected a time in the future")])


def _refuse_booking(look: Look, claim: Claim, principal: Principal, *, overbook: bool) -> None:
    _refuse_caller(principal, look)
    _refuse_past(claim.starts_at, look.now)
    _refuse_obstacle(look, overbook=overbook)


def _refuse_caller(principal: Principal, found: Look | Locked) -> None:
    suspended = found.caller_status == UserStatus.SUSPENDED
    check_caller(principal, KnownCaller(found.caller_role, suspended, found.session_revoked))


def _refuse_obstacle(look: Look, *, overbook: bool = False) -> None:
    if look.doctor_role != Role.DOCTOR or look.doctor_status == UserStatus.PENDING:
        raise DoctorNotFound
    if look.doctor_status == UserStatus.SUSPENDED:
        raise DoctorUnavailable
    if look.patient_role != Role.PATIENT:
        raise PatientNotFound
    if look.patient_busy:
        raise PatientBusy
    if look.doctor_busy and not overbook:
        raise SlotTaken


def _new_visit(claim: Claim, wish: AppointmentCreate, look: Look) -> Appointment:
    zone_of_doctor = look.doctor_time_zone or "UTC"
    return Appointment(
        id=claim.appointment_id,
        patient_id=claim.patient_id,
        doctor_id=claim.doctor_id,
        patient_name=look.patient_name,
        doctor_name=look.doctor_name,
        date_time=claim.starts_at,
        ends_at=claim.ends_at,
        duration_minutes=wish.duration_minutes,
        time_zone=zone_of_doctor,
        local_date_time=wall_time(claim.starts_at, zone_of_doctor),
        status=AppointmentStatus.PENDING,
        notes=wish.notes,
        # Only where it was needed: a visit at a free time is as safe from others as any.
        overbooked=look.doctor_busy,
        cancellation_reason=None,
        version=1,
        created_at=look.now,
        updated_at=look.now,
    )


def _in_zone(visit: Appointment, look: Look) -> Appointment:
    time_zone = look.doctor_time_zone or visit.time_zone
    return replace(visit, time_zone=time_zone, local_date_time=wall_time(visit.date_time, time_zone))
