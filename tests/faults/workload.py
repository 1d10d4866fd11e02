"""What people do all the time: they book, confirm, cancel and move, and repeat what got no answer."""

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from time import time
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec

from services.contracts.enums import Role
from tests.faults.front import Answer, Front
from tests.faults.ledger import Intent, Kind, Ledger, Outcome, Reply, Verdict
from tests.support.deployment import Deployment

_HOT_SLOTS = 5
_HOT = 0.2
_HALF_HOUR = timedelta(minutes=30)
_TOKEN_SECONDS = 600.0
_BOOK = "/api/appointments"
# What becomes of a booking: a tenth is confirmed, a tenth cancelled, a twentieth moved.
_AFTERWARDS: tuple[tuple[Kind, float], ...] = (("confirm", 0.10), ("cancel", 0.20), ("move", 0.25))


class Slot(NamedTuple):
    doctor: UUID
    patient: UUID
    starts_at: datetime


class People:
    """Whoever uses the platform, and times that nobody else wants."""

    def __init__(self, deployment: Deployment, doctors: list[UUID], patients: list[UUID]) -> None:
        self._deployment = deployment
        self.doctors, self.patients = doctors, patients
        self._tokens: dict[UUID, tuple[float, str]] = {}
        self._numbers, self._moves, self._contests = count(), count(), count()
        self._first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=2)

    def headers(self, person: UUID) -> dict[str, str]:
        made_at, token = self._tokens.get(person, (0.0, ""))
        if time() - made_at > _TOKEN_SECONDS:
            role = Role.DOCTOR if person in self.doctors else Role.PATIENT
            token = self._deployment.token(person, role)
            self._tokens[person] = time(), token
        return {"Authorization": f"Bearer {token}"}

    def forget_tokens(self) -> None:
        self._tokens.clear()

    def free_slot(self) -> Slot:
        """For a doctor and a patient who have nothing else at that time."""
        turn, place = divmod(next(self._numbers), len(self.doctors))
        patient = self.patients[(place + turn) % len(self.patients)]
        return Slot(self.doctors[place], patient, self._first + turn * _HALF_HOUR)

    def other_time(self) -> datetime:
        return self._first + timedelta(days=1500) + next(self._moves) * _HALF_HOUR

    def contested_time(self) -> datetime:
        return self._first + timedelta(days=3000) + next(self._contests) * timedelta(hours=4)


class Workload:
    """Open loop: a request is due when it is due, however long the others take.

    With `patience_seconds` 0 nothing is sent twice.
    """

    def __init__(
        self,
        people: People,
        front: Front,
        ledger: Ledger,
        chance: random.Random,
        *,
        per_second: float,
        patience_seconds: float,
    ) -> None:
        self._people, self._front, self._ledger, self._chance = people, front, ledger, chance
        self._per_second, self._patience = per_second, patience_seconds
        self._at_work: set[asyncio.Task[None]] = set()
        at = people.contested_time()
        self._hot = [(chance.choice(people.doctors), at + n * _HALF_HOUR) for n in range(_HOT_SLOTS)]

    async def run(self, seconds: float) -> None:
        """Returns when all is sent that is due within `seconds`; `settled` waits for the answers."""
        first = time()
        for number in count():
            if number >= seconds * self._per_second:
                return
            await asyncio.sleep(first + number / self._per_second - time())
            self._begin(self._hot_booking() if self._chance.random() < _HOT else self._booking())

    async def settled(self) -> None:
        while self._at_work:
            await asyncio.gather(*self._at_work)

    def _begin(self, operation: Any) -> None:
        task = asyncio.create_task(operation)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _booking(self) -> None:
        slot = self._people.free_slot()
        if visit := await self._book(slot, alone=True):
            drawn = self._chance.random()
            kind = next((kind for kind, below in _AFTERWARDS if drawn < below), None)
            if kind:
                await asyncio.sleep(self._chance.random())
                await self._change(kind, slot, visit)

    async def _hot_booking(self) -> None:
        doctor, starts_at = self._chance.choice(self._hot)
        slot = Slot(doctor, self._chance.choice(self._people.patients), starts_at)
        if visit := await self._book(slot, alone=False):
            # So that it is soon fought for again.
            await asyncio.sleep(self._chance.random())
            await self._change("cancel", slot, visit)

    async def _book(self, slot: Slot, *, alone: bool) -> dict[str, Any] | None:
        key = uuid4().hex
        # The notes carry the key into the row, where C3 looks for it.
        body = {"doctorId": slot.doctor, "dateTime": slot.starts_at, "notes": key}
        operation = await self._intend("book", slot.patient, body, key=key, alone=alone)
        headers = {**self._people.headers(slot.patient), "Idempotency-Key": key}
        give_up_at = time() + self._patience
        while True:
            answer = await self._front.send("booking", "POST", _BOOK, headers, body)
            reply = await self._note(operation, answer)
            if reply.acknowledges:
                await self._conclude(operation, "ok")
                return dict[str, Any](answer.json())
            if 400 <= reply.status < 500 and reply.code != "request_in_progress":
                await self._conclude(operation, "refused")
                return None
            if not await self._may_repeat(reply, give_up_at):
                await self._conclude(operation, "unknown")
                return None

    async def _change(self, kind: Kind, slot: Slot, visit: dict[str, Any]) -> None:
        caller = slot.doctor if kind == "confirm" else slot.patient
        body: dict[str, Any] = {"status": "CONFIRMED" if kind == "confirm" else "CANCELLED"}
        if kind == "move":
            body = {"dateTime": self._people.other_time()}
        path, etag = f"{_BOOK}/{visit['id']}", f'"{visit["version"]}"'
        operation = await self._intend(kind, caller, body, appointment_id=visit["id"], if_match=etag)
        give_up_at = time() + self._patience
        while True:
            headers = {**self._people.headers(caller), "If-Match": etag}
            reply = await self._note(operation, await self._front.send("booking", "PATCH", path, headers, body))
            if reply.acknowledges:
                return await self._conclude(operation, "ok")
            if 400 <= reply.status < 500 and reply.status != 412:
                return await self._conclude(operation, "refused")
            if reply.status != 412 and not await self._may_repeat(reply, give_up_at):
                return await self._conclude(operation, "unknown")
            # Whether an earlier try went through is seen by reading: nobody else changes this appointment.
            seen = await self._read(operation, caller, path, give_up_at)
            if seen is None:
                return await self._conclude(operation, "unknown")
            if seen.etag != etag:
                return await self._conclude(operation, "ok" if _shows(seen, body) else "refused")

    async def _read(self, operation: int, caller: UUID, path: str, give_up_at: float) -> Reply | None:
        while True:
            answer = await self._front.send("booking", "GET", path, self._people.headers(caller))
            reply = await self._note(operation, answer, read=True)
            if reply.acknowledges:
                return reply
            if not await self._may_repeat(reply, give_up_at):
                return None

    async def _may_repeat(self, reply: Reply, give_up_at: float) -> bool:
        """Once the pause is over that the answer asks for."""
        seconds = float(reply.retry_after or 0.2) * self._chance.uniform(0.8, 1.2)
        if time() + seconds > give_up_at:
            return False
        await asyncio.sleep(seconds)
        return True

    async def _intend(self, kind: Kind, caller: UUID, body: Mapping[str, Any], **more: Any) -> int:
        number = self._ledger.next_number()
        await self._ledger.write(Intent(operation=number, at=time(), kind=kind, caller=caller, body=dict(body), **more))
        return number

    async def _note(self, operation: int, answer: Answer, *, read: bool = False) -> Reply:
        reply = Reply(
            operation=operation,
            sent_at=answer.sent_at,
            at=answer.at,
            replica=answer.replica,
            status=answer.status,
            read=read,
            error=answer.error,
            body=answer.body.decode(),
            etag=answer.headers.get("etag"),
            replayed="idempotency-replayed" in answer.headers,
            retry_after=answer.headers.get("retry-after"),
            content_type=answer.headers.get("content-type", ""),
        )
        await self._ledger.write(reply)
        return reply

    async def _conclude(self, operation: int, outcome: Outcome) -> None:
        await self._ledger.write(Verdict(operation=operation, at=time(), outcome=outcome))


def _shows(reply: Reply, wanted: Mapping[str, Any]) -> bool:
    visit = msgspec.json.decode(reply.body)
    return bool({name: visit[name] for name in wanted} == msgspec.to_builtins(wanted))
