"""The requests that a row sends itself, outside the workload and its ledger."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from tests.faults.balancer import Answer, Balancer
from tests.faults.people import People, Slot
from tests.support.process import ServiceProcess


class Client:
    """Send single requests and count them, and the bookings and changes among them that were acknowledged."""

    def __init__(self, people: People, balancer: Balancer) -> None:
        self._people, self._balancer = people, balancer
        self.requests = self.acknowledged = 0

    async def send(self, service: str, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        self.requests += 1
        return await self._balancer.send(service, method, path, headers, body)

    async def send_to(self, replica: ServiceProcess, path: str, body: Any) -> Answer:
        """POST to one replica, without a token."""
        self.requests += 1
        return await self._balancer.send_to(replica, "POST", path, {}, body)

    async def get(self, service: str, path: str, caller: UUID) -> Answer:
        return await self.send(service, "GET", path, self._people.headers(caller))

    async def book(self, slot: Slot, replica: ServiceProcess | None = None) -> Answer:
        """Book the slot as its patient, at `replica` if one is given."""
        self.requests += 1
        key = uuid4().hex
        headers = {**self._people.headers(slot.patient), "Idempotency-Key": key}
        # The notes carry the key into the row, where C3 looks for it.
        body = {"doctorId": slot.doctor, "dateTime": slot.starts_at, "notes": key}
        post = "POST", "/api/appointments", headers, body
        answer = await (self._balancer.send_to(replica, *post) if replica else self._balancer.send("booking", *post))
        self.acknowledged += answer.status == 201
        return answer

    async def book_free_slot(self) -> tuple[Slot, dict[str, Any]]:
        """Return the slot and the appointment."""
        slot = self._people.free_slot()
        return slot, (await self.book(slot)).json()

    async def change(
        self, appointment: dict[str, Any], caller: UUID, body: dict[str, Any], etag: str | None = None
    ) -> Answer:
        headers = self._people.headers(caller) | ({"If-Match": etag} if etag else {})
        answer = await self.send("booking", "PATCH", f"/api/appointments/{appointment['id']}", headers, body)
        self.acknowledged += answer.status == 200
        return answer

    async def guess_password(self, email: str) -> int:
        """Return the status of a login with a wrong password."""
        body = {"email": email, "password": "a wrong guess"}
        return (await self.send("auth", "POST", "/api/patients/login", {}, body)).status
