"""Errors as RFC 9457 problem details: every response from 400 on is `application/problem+json` with a `code`."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import structlog

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
    """An error that becomes a response. A subclass says what happened by `code`, `title` (a sentence) and `status`.

    `extra` is added to the members of the body, `headers` to those of the response.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

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


class Unauthorized(ProblemError):
    status, code, title = 401, "unauthorized", "Authentication required"

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **extra)


class Forbidden(ProblemError):
    status, code, title = 403, "forbidden", "Not allowed"


class NotFound(ProblemError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ProblemError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class RequestTimeout(ProblemError):
    status, code, title = 408, "request_timeout", "The request did not arrive in time"


class Conflict(ProblemError):
    status, code, title = 409, "conflict", "The request conflicts with the current state"


class PreconditionFailed(ProblemError):
    status, code, title = 412, "precondition_failed", "The resource has changed since you read it"


class ContentTooLarge(ProblemError):
    status, code, title = 413, "content_too_large", "The body is larger than 64 KiB"


class UnsupportedMediaType(ProblemError):
    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class Unprocessable(ProblemError):
    status, code, title = 422, "unprocessable", "The request cannot be processed"


class HeadersTooLarge(ProblemError):
    status, code, title = 431, "headers_too_large", "The request has more than 100 headers, or more than 32 KiB of them"


class TooManyRequests(ProblemError):
    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, retry_after_seconds: int, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class Unavailable(ProblemError):
    """A dependency is down or too slow. The same request may succeed later: Retry-After says when to try."""

    status, code, title = 503, "unavailable", "Temporarily unavailable; try again"

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 2, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, **extra)


class NotReady(Exception):
    """Raised by a health check whose dependency answers but cannot be used, such as a schema that is too old."""


class InternalError(ProblemError):
    """A bug. The response says nothing about it; the log has the traceback under the same request id."""


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
