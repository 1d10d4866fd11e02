"""The doctors and patients of the load."""

from datetime import UTC, datetime, timedelta
from itertools import count
from time import time
from typing import NamedTuple
from uuid import UUID

from services.contracts.enums import Role
from tests.support.deployment import Deployment

HALF_HOUR = timedelta(minutes=30)
_TOKEN_SECONDS = 600.0


class Slot(NamedTuple):
    doctor: UUID
    patient: UUID
    starts_at: datetime


class People:
    """Doctors and patients with their tokens, and times that no other operation asks for."""

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
        """Return a time at which neither the doctor nor the patient has another appointment."""
        turn, place = divmod(next(self._numbers), len(self.doctors))
        patient = self.patients[(place + turn) % len(self.patients)]
        return Slot(self.doctors[place], patient, self._first + turn * HALF_HOUR)

    def time_to_move_to(self) -> datetime:
        """Return a free time, years after those of `free_slot`."""
        return self._first + timedelta(days=1500) + next(self._moves) * HALF_HOUR

    def contested_time(self) -> datetime:
        """Return the start of four free hours, for several operations to compete for."""
        return self._first + timedelta(days=3000) + next(self._contests) * timedelta(hours=4)
