"""The requests of the bench, as bytes. The services read the caller from the token, the bare handlers from X-Caller."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count, islice
from uuid import UUID

import msgspec

from services.contracts.enums import Role
from tests.bench.data import DOCTORS, FIRST_FREE, LENGTH, PATIENTS, PEOPLE

PASSWORD = "correct horse battery staple"


def request(
    method: str, target: str, token: str = "", caller: UUID | None = None, key: str = "", **body: object
) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if caller is not None:
        head += f"Authorization: Bearer {token}\r\nX-Caller: {caller}\r\n"
    if key:
        head += f"Idempotency-Key: {key}\r\n"
    if not body:
        return f"{head}\r\n".encode()
    content = msgspec.json.encode(body)
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


class Requests:
    """No two bookings ask for the same time, except those for a hot slot."""

    def __init__(self, token: Callable[[UUID, Role], str]) -> None:
        self._tokens = {id: token(id, Role.PATIENT) for id in PATIENTS}
        self._numbers = count()

    def _of(self, patient: UUID, method: str, target: str, key: str = "", **body: object) -> bytes:
        return request(method, target, self._tokens[patient], patient, key, **body)

    def get_doctor(self) -> list[bytes]:
        pairs = zip(PATIENTS, DOCTORS, strict=True)
        return [self._of(patient, "GET", f"/api/doctors/{doctor}") for patient, doctor in pairs]

    def list_doctors(self) -> list[bytes]:
        return [self._of(patient, "GET", "/api/doctors?limit=50") for patient in PATIENTS]

    def list_appointments(self) -> list[bytes]:
        """Ask for each patient's first page, which is full."""
        return [self._of(patient, "GET", "/api/appointments?limit=20") for patient in PATIENTS]

    def list_completed(self) -> list[bytes]:
        return [self._of(patient, "GET", "/api/appointments?limit=20&status=COMPLETED") for patient in PATIENTS]

    def bookings(self, number: int) -> list[bytes]:
        """Book for other doctors and patients than every concurrent booking, so that no lock is waited for."""
        requests = []
        for booking in islice(self._numbers, number):
            turn, place = divmod(booking, PEOPLE)
            patient = PATIENTS[(place + turn) % PEOPLE]
            starts_at = FIRST_FREE + turn * LENGTH
            requests.append(self._book(patient, DOCTORS[place], starts_at, key=f"bench-{booking}"))
        return requests

    def hot_slots(self, slots: int, clients: int) -> list[bytes]:
        """Have so many clients ask for each of the first doctor's slots, which lie years after other bookings."""
        times = [FIRST_FREE + timedelta(days=1500) + turn * LENGTH for turn in range(slots)]
        return [
            self._book(patient, DOCTORS[0], at, key=f"hot-{at:%s}") for at in times for patient in PATIENTS[:clients]
        ]

    def _book(self, patient: UUID, doctor: UUID, at: datetime, key: str) -> bytes:
        return self._of(patient, "POST", "/api/appointments", key, doctorId=doctor, dateTime=at, notes="First visit")

    def logins(self) -> list[bytes]:
        return [
            request("POST", "/api/patients/login", email=f"{patient}@example.com", password=PASSWORD)
            for patient in PATIENTS
        ]

    def liveness(self, number: int) -> list[bytes]:
        return [request("GET", "/api/health/live")] * number
