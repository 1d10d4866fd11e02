"""JSON responses, and the errors that an operation documents."""

from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.types import ASGIApp, Receive, Scope, Send

from services.kit.auth import AccountSuspended, InvalidToken, SessionEnded
from services.kit.errors import (
    PROBLEM_JSON,
    BadRequest,
    Forbidden,
    Problem,
    ProblemError,
    Unauthorized,
    Unavailable,
    problem_of,
)

T = TypeVar("T")

# What `responses` documents for each kind of route; a route by id adds `NotFound`.
SIGNED_IN = (Unauthorized, InvalidToken, Unavailable)
WITH_ROLE = (*SIGNED_IN, Forbidden)
CALLER_CHECKED = (*WITH_ROLE, AccountSuspended, SessionEnded)  # the route calls `check_caller`, as all writes do


class JsonResponse(Response[T]):
    """A response of a handler; a handler builds one itself to set headers.

    Litestar's own puts the headers of each answer through a case-insensitive dictionary, which is a tenth of the time
    of a small read. Answers without a body, or of another type, still go that way.
    """

    def to_asgi_response(  # type: ignore[override]  # any ASGI application will do
        self, app: Any, request: Request[Any, Any, Any], **options: Any
    ) -> ASGIApp:
        media_type = self.media_type or options.get("media_type") or MediaType.JSON
        if media_type != MediaType.JSON or self.content is None or self.cookies or self.background:
            return super().to_asgi_response(app, request, **options)
        body = self.content if isinstance(self.content, bytes) else msgspec.json.encode(self.content)
        status = self.status_code or options.get("status_code") or 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]

        async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return send_it


def responses(*errors: type[ProblemError]) -> dict[int, ResponseSpec]:
    """Document the errors that an operation may answer with: one entry for each status, with its codes.

    `BadRequest` need not be named: any address may have a NUL in its query.
    """
    by_status: dict[int, list[type[ProblemError]]] = {}
    possible: tuple[type[ProblemError], ...] = (BadRequest, *errors)
    for error in dict.fromkeys(possible):
        by_status.setdefault(error.status, []).append(error)
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=" ".join(f"`{error.code}`: {error.title}." for error in kinds),
            media_type=PROBLEM_JSON,
            examples=[Example(id=error.code, summary=error.title, value=problem_example(error)) for error in kinds],
        )
        for status, kinds in sorted(by_status.items())
    }


def problem_example(error: type[ProblemError]) -> dict[str, Any]:
    example: dict[str, Any] = msgspec.to_builtins(problem_of(error, "5d6d70975b3f454088d182cdcbd4e8b1"))
    return example
