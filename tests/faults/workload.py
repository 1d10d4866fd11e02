"""The load: bookings, confirmations, cancellations and moves, repeated while they get no answer."""

import asyncio
import random
from collections.abc import Mapping
from itertools import count
from time import time
from typing import Any
from uuid import UUID, uuid4

import msgspec

from tests.faults.balancer import Answer, Balancer
from tests.faults.ledger import Intent, Kind, Ledger, Outcome, Reply, Verdict
from tests.faults.people import HALF_HOUR, People, Slot

_HOT_SLOTS = 5
_HOT_SHARE = 0.2
_APPOINTMENTS = "/api/appointments"
# Cumulative: a tenth of the bookings is confirmed later, a tenth cancelled, a twentieth moved.
_AFTERWARDS: tuple[tuple[Kind, float], ...] = (("confirm", 0.10), ("cancel", 0.20), ("move", 0.25))


class Workload:
    """An open loop: each request is sent when it is due, however long the others take.

    A client repeats its request, under the same key, for `patience_seconds`; with 0 it sends everything once.
    """

    def __init__(
        self,
        people: People,
        balancer: Balancer,
        ledger: Ledger,
        random_source: random.Random,
        *,
        per_second: float,
        patience_seconds: float,
    ) -> None:
        self._people, self._balancer, self._ledger, self._random = people, balancer, ledger, random_source
        self._per_second, self._patience = per_second, patience_seconds
        self._operations: set[asyncio.Task[None]] = set()
        first = people.contested_time()
        self._hot = [(self._random.choice(people.doctors), first + n * HALF_HOUR) for n in range(_HOT_SLOTS)]

    async def run(self, seconds: float) -> None:
        """Begin every operation that is due within `seconds`; `settled` waits for their ends."""
        first = time()
        for number in count():
            if number >= seconds * self._per_second:
                return
            await asyncio.sleep(first + number / self._per_second - time())
            self._begin(self._hot_booking() if self._random.random() < _HOT_SHARE else self._booking())

    async def settled(self) -> None:
        """Wait until every operation has ended."""
        while self._operations:
            await asyncio.gather(*self._operations)

    def _begin(self, operation: Any) -> None:
        task = asyncio.create_task(operation)
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)

    async def _booking(self) -> None:
        slot = self._people.free_slot()
        if appointment := await self._book(slot, uncontested=True):
            drawn = self._random.random()
            kind = next((kind for kind, below in _AFTERWARDS if drawn < below), None)
            if kind:
                await asyncio.sleep(self._random.random())
                await self._change(kind, slot, appointment)

    async def _hot_booking(self) -> None:
        doctor, starts_at = self._random.choice(self._hot)
        slot = Slot(doctor, self._random.choice(self._people.patients), starts_at)
        if appointment := await self._book(slot, uncontested=False):
            # Cancelled soon, so that the next operations compete for the slot again.
            await asyncio.sleep(self._random.random())
            await self._change("cancel", slot, appointment)

    async def _book(self, slot: Slot, *, uncontested: bool) -> dict[str, Any] | None:
        key = uuid4().hex
        # The notes carry the key into the row, where C3 looks for it.
        body = {"doctorId": slot.doctor, "dateTime": slot.starts_at, "notes": key}
        operation = await self._intend("book", slot.patient, body, key=key, uncontested=uncontested)
        headers = {**self._people.headers(slot.patient), "Idempotency-Key": key}
        give_up_at = time() + self._patience
        while True:
            answer = await self._balancer.send("booking", "POST", _APPOINTMENTS, headers, body)
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

    async def _change(self, kind: Kind, slot: Slot, appointment: dict[str, Any]) -> None:
        caller = slot.doctor if kind == "confirm" else slot.patient
        body: dict[str, Any] = {"status": "CONFIRMED" if kind == "confirm" else "CANCELLED"}
        if kind == "move":
            body = {"dateTime": self._people.time_to_move_to()}
        path, etag = f"{_APPOINTMENTS}/{appointment['id']}", f'"{appointment["version"]}"'
        operation = await self._intend(kind, caller, body, appointment_id=appointment["id"], if_match=etag)
        give_up_at = time() + self._patience
        while True:
            headers = {**self._people.headers(caller), "If-Match": etag}
            answer = await self._balancer.send("booking", "PATCH", path, headers, body)
            reply = await self._note(operation, answer)
            if reply.acknowledges:
                return await self._conclude(operation, "ok")
            if 400 <= reply.status < 500 and reply.status != 412:
                return await self._conclude(operation, "refused")
            if reply.status != 412 and not await self._may_repeat(reply, give_up_at):
                return await self._conclude(operation, "unknown")
            # Read whether an earlier attempt took effect: no other client changes this appointment.
            seen = await self._read(operation, caller, path, give_up_at)
            if seen is None:
                return await self._conclude(operation, "unknown")
            if seen.etag != etag:
                return await self._conclude(operation, "ok" if _has_fields(seen, body) else "refused")

    async def _read(self, operation: int, caller: UUID, path: str, give_up_at: float) -> Reply | None:
        while True:
            answer = await self._balancer.send("booking", "GET", path, self._people.headers(caller))
            reply = await self._note(operation, answer, read=True)
            if reply.acknowledges:
                return reply
            if not await self._may_repeat(reply, give_up_at):
                return None

    async def _may_repeat(self, reply: Reply, give_up_at: float) -> bool:
        """Wait as long as the answer asks for; False, without waiting, when that is past `give_up_at`."""
        seconds = float(reply.retry_after or 0.2) * self._random.uniform(0.8, 1.2)
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


def _has_fields(reply: Reply, expected: Mapping[str, Any]) -> bool:
    appointment = msgspec.json.decode(reply.body)
    return bool({name: appointment[name] for name in expected} == msgspec.to_builtins(expected))
