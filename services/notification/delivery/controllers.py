from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from services.contracts.enums import Role
from services.kit.http.access_audit import record
from services.kit.http.guards import requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import WITH_ROLE, responses
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Delivery


class DeliveryController(Controller):
    path = "/api/notifications/deliveries"
    tags = ["Deliveries"]
    opt = record("deliveries")

    @get(
        operation_id="listDeliveries",
        summary="List an appointment's deliveries",
        before_request=requires(Role.ADMIN),
        responses=responses(*WITH_ROLE),
    )
    async def list_deliveries(
        self,
        deliveries: NamedDependency[DeliveryRepository],
        appointment_id: Annotated[UUID, QueryParameter(name="appointmentId", description="The appointment's id")],
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Delivery]:
        """For admins: why a user was or was not notified of this appointment, by event, user and channel, newest
        first.
        """
        before = decode_cursor(cursor, UUID)
        found = await deliveries.list_for(appointment_id, before=before, limit=limit + 1)
        return Page.of(found, limit, lambda delivery: delivery.id)
