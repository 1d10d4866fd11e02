from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from services.booking.errors import DoctorNotFound, DoctorUnavailable, TypeNotFound, TypeUnavailable
from services.booking.slots.reads import SlotReads
from services.booking.slots.schemas import Slot, SlotDay
from services.booking.time.chosen_type import TypeChoice
from services.kit.errors import BadRequest, FieldError, NotFound, Unauthorized, Unavailable
from services.kit.http.guards import PUBLIC, authenticated
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import responses
from services.kit.schema import INSTANT, Instant, parse_instant

_DEFAULT_WINDOW = timedelta(days=31)
_LONGEST_WINDOW = timedelta(days=62)


def _instant(name: str, description: str) -> QueryParameter:
    return QueryParameter(name=name, max_length=64, schema_extra=INSTANT, description=description)


class SlotController(Controller):
    path = "/api/slots"
    tags = ["Slots"]

    @get(
        summary="List a doctor's free times",
        operation_id="listSlots",
        security=PUBLIC,
        responses=responses(
            Unauthorized, NotFound, DoctorNotFound, DoctorUnavailable, TypeNotFound, TypeUnavailable, Unavailable
        ),
    )
    async def list_slots(
        self,
        slots: NamedDependency[SlotReads],
        request: Request[Any, Any, Any],
        doctor_id: Annotated[UUID, QueryParameter(name="doctorId")],
        from_: Annotated[str | None, _instant("from", "Inclusive lower bound of the start; now by default")] = None,
        to: Annotated[str | None, _instant("to", "Exclusive upper bound, at most 62 days later; 31 by default")] = None,
        type_id: Annotated[UUID | None, QueryParameter(name="typeId")] = None,
        duration_minutes: Annotated[int | None, QueryParameter(name="durationMinutes", ge=5, le=480)] = None,
        excluding: Annotated[
            UUID | None, QueryParameter(description="An appointment of the caller's that is to be moved")
        ] = None,
        view: FromQuery[Literal["slots", "days"]] = "slots",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Slot] | Page[SlotDay]:
        """The starts that a patient can book for an appointment of the type `typeId`, earliest first.

        Without `typeId` it is the type that a patient's booking without one has: the first active type, by `position`,
        that everyone may book, of `durationMinutes` if they are given. Of a doctor without types it is an appointment
        of `durationMinutes`, or of 30. A type has its times whoever may book it.
        They follow from the doctor's availability and from what is booked at this moment, and are not reserved: the
        booking decides. `view=days` counts the slots of each day in the doctor's zone instead. With `excluding`, which
        needs a signed-in caller, they are the starts that this appointment can be moved to, with its own length and
        buffers.
        """
        begin = parse_instant(from_, "from") or datetime.now(UTC)
        end = parse_instant(to, "to") or begin + _DEFAULT_WINDOW
        if end <= begin:
            raise BadRequest(errors=[FieldError("to", "Expected an instant after `from`")])
        if end - begin > _LONGEST_WINDOW:
            raise BadRequest(errors=[FieldError("to", "At most 62 days after `from`")])
        moving = await slots.to_move(authenticated(request), excluding) if excluding else None
        if moving and moving.doctor_id != doctor_id:
            raise BadRequest(errors=[FieldError("excluding", "Not an appointment with this doctor")])
        if moving and type_id:
            raise BadRequest(errors=[FieldError("typeId", "A moved appointment keeps its type")])
        choice = TypeChoice(type_id, duration_minutes, by_patient=moving is None)
        if view == "days":
            days = await slots.days(doctor_id, begin, end, choice, decode_cursor(cursor, date), moving)
            return Page.of(days, limit, lambda day: day.date)
        after = decode_cursor(cursor, Instant)
        begin = begin if after is None else max(begin, after + timedelta(seconds=1))
        found = await slots.slots(doctor_id, begin, end, choice, limit + 1, moving) if begin < end else []
        return Page.of(found, limit, lambda slot: slot.starts_at)
