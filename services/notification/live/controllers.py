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
        summary="Create a stream ticket",
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def create_ticket(
        self, user_id: UserId, request: AuthenticatedRequest, live: NamedDependency[LiveService]
    ) -> StreamTicket:
        """For that user only. A browser's `EventSource` cannot send an Authorization header: it opens `/stream?ticket=`
        within 30 s instead. A ticket opens one stream, which ends with the access token that created the ticket.
        """
        return await live.make_ticket(request.user, user_id)

    @get(
        "/stream",
        operation_id="streamNotifications",
        summary="Stream notifications",
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
            QueryParameter(
                name="lastEventId",
                description="The same for clients that cannot send the header, which takes precedence",
            ),
        ] = None,
    ) -> ASGIResponse:
        """For that user only. Sends each in-app notification when it is stored: `event: notification`, its `id:`, and
        its JSON as `data:`.

        Without `Last-Event-ID` the stream starts now; its first line is an `id:` without data, so that a client that
        has received nothing yet can resume. With it, the stream starts a minute before that id and repeats some
        notifications: clients key on `id`. A comment line follows every 15 s. The stream ends with the token and when
        the server stops; a user may have five open streams.

        A browser's `EventSource` reconnects by itself, but a ticket works once: on an error, create another ticket and
        open a new `EventSource` with `lastEventId`.
        """
        last_seen = _event_id("Last-Event-ID", last_event_id) or _event_id("lastEventId", last_event_id_query)
        caller = await live.redeem(ticket, user_id) if ticket is not None else request.user
        request.scope["state"]["caller"] = caller  # for the access line
        return EventStream(live, caller, user_id, last_seen)


def _event_id(name: str, text: str | None) -> UUID | None:
    """Parse the position in the stream that a client sends back: a notification's id, which contains its time."""
    if not text:
        return None
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or value.version != 7:
        raise BadRequest(errors=[FieldError(name, "Expected the `id` of an event of this stream")])
    return value
