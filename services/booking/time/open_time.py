"""How much upcoming time a patient may occupy by their own bookings, so that no account takes a doctor's calendar."""

from datetime import timedelta
from typing import NamedTuple

from services.booking.errors import TooManyOpen
from services.booking.settings import Settings


class OpenTime(NamedTuple):
    """A patient's upcoming time beside the claim's, with its doctor and in all, and whether the address is verified."""

    verified: bool
    appointments_with_doctor: int
    minutes_with_doctor: int
    appointments: int
    minutes: int

    def check(self, limits: Settings, *, added: timedelta, new: bool, doctors_limit: int | None = None) -> None:
        """Raise `TooManyOpen` if a claim of length `added` passes a limit on time or, if it is `new`, on their number.

        `doctors_limit` is the doctor's own, on the appointments that a patient may have with them.
        """
        with_doctor = (self.appointments_with_doctor, self.minutes_with_doctor, " with one doctor")
        in_all = (self.appointments, self.minutes)
        checks = [
            (limits.open_appointments_per_doctor, limits.open_hours_per_doctor, *with_doctor),
            (limits.open_appointments_per_patient, limits.open_hours_per_patient, *in_all, ""),
            (doctors_limit or 0, 0, *with_doctor[:2], " with this doctor"),
        ]
        if not self.verified:
            unverified = (limits.unverified_open_appointments, limits.unverified_open_hours)
            checks.insert(0, (*unverified, *in_all, " until the e-mail address is verified"))
        for appointments, hours, count, minutes, condition in checks:
            if new and appointments and count >= appointments:
                raise TooManyOpen(f"At most {appointments} upcoming appointments{condition}")
            if hours and timedelta(minutes=minutes) + added > timedelta(hours=hours):
                raise TooManyOpen(f"At most {hours} upcoming hours{condition}")
