from uuid import UUID

import msgspec

from services.auth.errors import FutureAppointments
from services.contracts import appointments
from services.contracts.enums import Role
from services.kit.errors import Unavailable
from services.kit.internal import InternalClient

_PATHS = {Role.DOCTOR: "doctors", Role.PATIENT: "patients"}


class UpcomingAppointments:
    """Asks booking before an account ends. Hold no database connection meanwhile."""

    def __init__(self, booking: InternalClient) -> None:
        self._booking = booking

    async def refuse(self, role: Role, user_id: UUID) -> None:
        """Raise `FutureAppointments` with the user's upcoming appointments if there are any."""
        if role not in _PATHS:
            return
        path = f"/internal/{_PATHS[role]}/{user_id}/appointments"
        answer = await self._booking.get(path, appointments.FutureAppointments)
        if answer is None:
            raise Unavailable("Booking did not say whether there are upcoming appointments")
        if answer.items:
            raise FutureAppointments(appointments=msgspec.to_builtins(answer.items))
