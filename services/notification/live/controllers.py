from typing import Annotated
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.response.base import ASGIResponse

from services.kit.errors import BadRequest, FieldError, NotFound
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.responses import CALLER_CHECKED, responses
from services.kit.http.strict import refuse_null
from services.notification.errors import InvalidTicket, TooManyStreams
from services.notification.inbox.controllers import UserId
from services.notification.live.response import EventStream
from services.notification.live.schemas import StreamTicket
from services.notification.live.service import LiveService

_signed_in = requires()


async def _signed_in_or_ticket(request: AuthenticatedRequest) -> None:
    if "ticket" in request.query_params:
        await refuse_null(request)
    else:
        await _signed_in(request)


class StreamController(Controller):
    path = "/api/notifications/{userId:uuid}"
    tags = ["Notifications"]
    opt = record("notifications")

    @post(
        "/stream-ticket",
        operation_id="createStreamTicket",
        summary="Make a ticket that opens a stream",
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def create_ticket(
        self, user_id: UserId, request: AuthenticatedRequest, live: NamedDependency[LiveService]
    ) -> StreamTicket:
        """For that user alone, and for a browser's `EventSource`, which cannot send an Authorization header: open
        `/stream?ticket=` with it within 30 s. It opens one stream, which ends when the token does that asked for it.
        """
        return await live.make_ticket(request.user, user_id)

    @get(
        "/stream",
        operation_id="streamNotifications",
        summary="Be told at once",
        before_request=_signed_in_or_ticket,
        responses={
            200: ResponseSpec(
                str,
                generate_examples=False,
                media_type="text/event-stream",
                description="Server-sent events, for as long as the token is valid.",
            ),
            **responses(*CALLER_CHECKED, InvalidTicket, NotFound, TooManyStreams),
        },
    )
    async def open_stream(
        self,
        user_id: UserId,
        request: AuthenticatedRequest,
        live: NamedDependency[LiveService],
        ticket: Annotated[
            str | None, QueryParameter(max_length=100, description="Of `stream-ticket`, instead of a bearer token")
        ] = None,
        last_event_id: Annotated[
            str | None, HeaderParameter(name="Last-Event-ID", description="Resume: the last `id` that was received")
        ] = None,
        last_event_id_query: Annotated[
            str | None,
            QueryParameter(name="lastEventId", description="The same, where no header can be sent; that goes first"),
        ] = None,
    ) -> ASGIResponse:
        """For that user alone: each in-app notification when it is stored, as `event: notification`, its `id:`, and as
        `data:` the JSON that the list has.

        Without `Last-Event-ID` only what comes from now on; an `id:` without data comes first, so that even a client
        that has not been told anything yet can resume. With it, everything since a minute before that id, which
        repeats some: clients key on `id`. A comment line comes every 15 s. The stream ends with the token, or when the
        server is about to stop, and at most five are open for a user at a time.

        A browser's `EventSource` comes back by itself, but not with a ticket, which is spent: on an error make another
        one and open a new `EventSource` with `lastEventId`.
        """
        last_seen = _event_id("Last-Event-ID", last_event_id) or _event_id("lastEventId", last_event_id_query)
        caller = await live.redeem(ticket, user_id) if ticket is not None else request.user
        request.scope["state"]["caller"] = caller  # for the access line
        return EventStream(live, caller, user_id, last_seen)


def _event_id(name: str, text: str | None) -> UUID | None:
    """The position in the stream that a client sends back: notifications' ids, which tell their time."""
    if not text:
        return None
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or value.version != 7:
        raise BadRequest(errors=[FieldError(name, "Expected the `id` of an event of this stream")])
    return value
