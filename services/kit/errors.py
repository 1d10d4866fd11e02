"""Errors as RFC 9457 problem details: every answer ≥ 400 is `application/problem+json` with a stable `code`."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

PROBLEM_JSON = "application/problem+json"
log = structlog.get_logger("errors")


class FieldError(msgspec.Struct, frozen=True):
    path: str
    message: str


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of every error (RFC 9457). Clients branch on `code`; `detail` is for people and may change."""

    title: str
    status: int
    code: str
    request_id: str
    type: str = "about:blank"
    detail: str | None = None
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """An error with an answer. A subclass names what happened in `code`, a sentence in `title`, and its `status`.

    `extra` goes into the body beside the standard members, `headers` into the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The server met an unexpected condition"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = extra


class BadRequest(ProblemError):
    status, code, title = 400, "invalid_request", "The request is not valid"


class Unauthorized(ProblemError):
    status, code, title = 401, "unauthorized", "Sign in to do this"

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **extra)


class Forbidden(ProblemError):
    status, code, title = 403, "forbidden", "You may not do this"


class NotFound(ProblemError):
    status, code, title = 404, "not_found", "There is no such thing here"


class MethodNotAllowed(ProblemError):
    status, code, title = 405, "method_not_allowed", "This address does not take this method"


class Conflict(ProblemError):
    status, code, title = 409, "conflict", "The request conflicts with the present state"


class PreconditionFailed(ProblemError):
    status, code, title = 412, "precondition_failed", "It has changed since you read it"


class ContentTooLarge(ProblemError):
    status, code, title = 413, "content_too_large", "The body is larger than 64 KiB"


class UnsupportedMediaType(ProblemError):
    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class Unprocessable(ProblemError):
    status, code, title = 422, "unprocessable", "The request cannot be processed"


class TooManyRequests(ProblemError):
    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, retry_after_seconds: int, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class Unavailable(ProblemError):
    """A dependency is away or too slow; the same request may succeed later, and clients are told when to try."""

    status, code, title = 503, "unavailable", "Temporarily unavailable, please try again"

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 2, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class NotReady(Exception):
    """A health check's own finding: its dependency answers but is not fit, such as a schema that is too old."""


class InternalError(ProblemError):
    """A bug: the answer tells nothing, the log has the traceback under the same request id."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    error.status: error
    for error in (BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, ContentTooLarge, InternalError)
}


def problem_body(error: ProblemError, request_id: str) -> bytes:
    problem = Problem(
        title=error.title,
        status=error.status,
        code=error.code,
        request_id=request_id,
        detail=error.detail,
        errors=error.errors,
    )
    return msgspec.json.encode({"type": "about:blank", **msgspec.to_builtins(problem), **error.extra})


def _answer(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    state = request.scope["state"]
    state["problem"] = error.code  # for the audit trail
    body = problem_body(error, state["request_id"])
    return Response(body, status_code=error.status, media_type=PROBLEM_JSON, headers=error.headers)


def _handle_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _answer(request, error)


def _handle_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answers for what Litestar itself refuses: routing, query parameters, bodies that are not JSON."""
    if error.status_code == 405:
        allowed = ", ".join(_methods_at(request))
        return _answer(request, MethodNotAllowed(headers={"Allow": allowed}))
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        found = [
            FieldError(sent_as(request, item.get("key", "")), str(item["message"]).replace("`", ""))
            for item in error.extra
        ]
        return _answer(request, BadRequest(errors=found))
    kind = _BY_STATUS.get(error.status_code, BadRequest if error.status_code < 500 else InternalError)
    if issubclass(kind, InternalError):
        return _handle_unexpected(request, error)
    return _answer(request, kind(error.detail if kind is BadRequest else None))


def sent_as(request: Request[Any, Any, Any], parameter: str) -> str:
    """The client's name of a handler's parameter: `doctorId`, where Litestar says `doctor_id`."""
    declared = request.route_handler.parsed_fn_signature.parameters.get(parameter)
    return getattr(declared and declared.kwarg_definition, "name", None) or parameter


def _methods_at(request: Request[Any, Any, Any]) -> list[str]:
    allowed = []
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        try:
            request.app.asgi_router.handle_routing(request.scope["path"], method)
        except HTTPException:
            continue
        allowed.append(method)
    return allowed


def _handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("unhandled exception", request_id=request.scope["state"]["request_id"], exc_info=error)
    return _answer(request, InternalError())


EXCEPTION_HANDLERS: dict[type[Exception] | int, Any] = {
    ProblemError: _handle_problem,
    HTTPException: _handle_http,
    Exception: _handle_unexpected,
}


def responses(*errors: type[ProblemError]) -> dict[int, ResponseSpec]:
    """What an operation may answer besides success, for its OpenAPI document: one entry per status, codes listed.

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
    problem = Problem(error.title, error.status, error.code, request_id="5d6d70975b3f454088d182cdcbd4e8b1")
    return {"type": "about:blank", **msgspec.to_builtins(problem)}
