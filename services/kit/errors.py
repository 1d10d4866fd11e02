"""Errors as RFC 9457 problem details: every response from 400 on is `application/problem+json` with a `code`."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import structlog

PROBLEM_JSON = "application/problem+json"
ERRORS_PAGE = "/api/docs/errors"
_NAMED = 5  # fields that a detail names
log = structlog.get_logger("errors")


class FieldError(msgspec.Struct, frozen=True):
    path: str
    message: str


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of every error (RFC 9457). Clients branch on `code`; `detail` is for people and may change.

    `type` is the address of a page that says when the error happens and what a client does.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """An error that becomes a response. A subclass has a `status`, a stable `code` and its `title`.

    `when` says when it happens and `remedy` what a client does, both in whole sentences; without another `detail`, the
    body's has the first, and it always ends with the second. `make docs` writes the pages of errors from them. `extra`
    is added to the members of the body, `headers` to those of the response.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    when: ClassVar[str] = "The service failed at something that it does not expect."
    remedy: ClassVar[str] = "Report it with its `requestId`. Repeat the request only with its Idempotency-Key."

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
    status, code, title = 400, "invalid_request", "Invalid request"
    when = "The body, a parameter or a header is not what the operation's description says."
    remedy = "Correct the request, by `errors` if it is there, and send it again."


class MalformedJson(BadRequest):
    code, title = "malformed_json", "The body is not valid JSON"
    when = "The body is empty, is no JSON text, or is not encoded in UTF-8."
    remedy = "Send one JSON text in UTF-8."


class Unauthorized(ProblemError):
    status, code, title = 401, "unauthorized", "Authentication required"
    when = "The operation needs an access token, and the request has none."
    remedy = "Sign in, and send `Authorization: Bearer <accessToken>`."

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **extra)


class Forbidden(ProblemError):
    status, code, title = 403, "forbidden", "Not allowed"
    when = "The caller is known, and may not do this."
    remedy = "Do not repeat it. Sign in as a user who may, or ask an admin."


class NotFound(ProblemError):
    status, code, title = 404, "not_found", "Not found"
    when = "Nothing has this address, or the caller may not know that it exists."
    remedy = "Check the path and the id, and who is signed in."


class MethodNotAllowed(ProblemError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"
    when = "The path has no operation with this method."
    remedy = "Use one of the methods in the header `Allow`."


class RequestTimeout(ProblemError):
    status, code, title = 408, "request_timeout", "The request did not arrive in time"
    when = "The head of a request took longer than 20 seconds to arrive, or its body longer than 30."
    remedy = "Send it again on a new connection; a request that creates something with the same Idempotency-Key."


class Conflict(ProblemError):
    status, code, title = 409, "conflict", "The request conflicts with the current state"


class PreconditionFailed(ProblemError):
    status, code, title = 412, "precondition_failed", "The resource has changed since you read it"
    when = "None of the versions in `If-Match` is the current one: another change came first."
    remedy = "Read the resource again, decide again, and send the change with the new ETag."


class ContentTooLarge(ProblemError):
    status, code, title = 413, "content_too_large", "The body is larger than 64 KiB"
    when = "The body is larger than any that the operation could accept."
    remedy = "Send less."


class UnsupportedMediaType(ProblemError):
    status, code, title = 415, "unsupported_media_type", "The body must be application/json"
    when = "The body's `Content-Type` is not JSON, its charset is not UTF-8, or it is compressed."
    remedy = "Send UTF-8 JSON, uncompressed, with `Content-Type: application/json`."


class Unprocessable(ProblemError):
    status, code, title = 422, "unprocessable", "The request cannot be processed"


class HeadersTooLarge(ProblemError):
    status, code, title = 431, "headers_too_large", "The request has more than 100 headers, or more than 32 KiB of them"
    when = "The headers take more than the API needs: often cookies or tokens have accumulated."
    remedy = "Send fewer or shorter headers, or a shorter address."


class TooManyRequests(ProblemError):
    status, code, title = 429, "too_many_requests", "Too many requests"
    when = "The account, or the network address, has sent more than the quota in `RateLimit-Policy` allows."
    remedy = "Wait as many seconds as `Retry-After` says, then send the same request."

    def __init__(self, retry_after_seconds: int, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class Unavailable(ProblemError):
    """A dependency is down or too slow. The same request may succeed later: Retry-After says when to try."""

    status, code, title = 503, "unavailable", "Temporarily unavailable; try again"
    when = "Something that the service depends on is down or too slow."
    remedy = "Send the same request, with its Idempotency-Key, again after as many seconds as `Retry-After` says."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 2, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class NotReady(Exception):
    """Raised by a health check whose dependency answers but cannot be used, such as a schema that is too old."""


class InternalError(ProblemError):
    """A bug. The response says nothing about it; the log has the traceback under the same request id."""


def problem_of(
    error: type[ProblemError], request_id: str, detail: str | None = None, errors: list[FieldError] | None = None
) -> Problem:
    if detail is None and errors:
        paths = list(dict.fromkeys(one.path or "the body" for one in errors))
        detail = f"Wrong: {', '.join(paths[:_NAMED])}" + (f" and {len(paths) - _NAMED} more" if paths[_NAMED:] else "")
    happened = error.when if detail is None else detail if detail.endswith((".", "?")) else f"{detail}."
    return Problem(
        type=f"{ERRORS_PAGE}#{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=f"{happened} {error.remedy}",
        request_id=request_id,
        errors=errors,
    )


def problem_body(error: ProblemError, request_id: str) -> bytes:
    problem = problem_of(type(error), request_id, error.detail, error.errors)
    return msgspec.json.encode({**msgspec.to_builtins(problem), **error.extra} if error.extra else problem)
