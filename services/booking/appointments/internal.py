"""What auth asks for before it suspends or erases a user."""

from uuid import UUID

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from services.booking.appointments.reads import AppointmentReads
from services.contracts.appointments import FutureAppointments
from services.contracts.enums import Role
from services.kit.http.guards import requires_internal_token

_LIMIT = 100


def future_appointments_handlers(appointments: AppointmentReads, token: str) -> list[HTTPRouteHandler]:
    """Return the routes that list the next appointments of a doctor and of a patient."""

    @get("/internal/doctors/{id:uuid}/appointments", before_request=requires_internal_token(token))
    async def of_doctor(id: FromPath[UUID]) -> FutureAppointments:
        return FutureAppointments(items=list(await appointments.future_of(Role.DOCTOR, id, _LIMIT)))

    @get("/internal/patients/{id:uuid}/appointments", before_request=requires_internal_token(token))
    async def of_patient(id: FromPath[UUID]) -> FutureAppointments:
        return FutureAppointments(items=list(await appointments.future_of(Role.PATIENT, id, _LIMIT)))

    return [of_doctor, of_patient]
