"""Exception handlers: errors become problem documents."""

import re
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from services.kit.errors import (
    PROBLEM_JSON,
    BadRequest,
    ContentTooLarge,
    FieldError,
    Forbidden,
    InternalError,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    ProblemError,
    Unauthorized,
    problem_body,
)

log = structlog.get_logger("errors")

_BY_STATUS: dict[int, type[ProblemError]] = {
    error.status: error
    for error in (BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, ContentTooLarge, InternalError)
}

# Of such an error Litestar tells the name in its sentence only.
_MISSING = re.compile("Missing required [a-z]+ parameter '(.+?)' for path")
_QUOTED = re.compile(r"`([^`]*)`")
_IN_JSON = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "datetime": "instant"}


def _answer(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    state = request.scope["state"]
    state["problem"] = error.code  # for the audit trail
    body = problem_body(error, state["request_id"])
    return Response(body, status_code=error.status, media_type=PROBLEM_JSON, headers=error.headers)


def _handle_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _answer(request, error)


def _handle_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Translate Litestar's own errors: of routing, query parameters and bodies that are not JSON."""
    if error.status_code == 405:
        allowed = ", ".join(methods_at(request))
        return _answer(request, MethodNotAllowed(f"This path has {allowed} only", headers={"Allow": allowed}))
    if isinstance(error, ValidationException) and (missing := _MISSING.match(error.detail)):
        return _answer(request, BadRequest(errors=[FieldError(missing[1], "Required")]))
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        if [item.get("key") for item in error.extra] == ["data"]:  # `StrictBody` decodes every other body
            return _answer(request, MalformedJson("The body is empty"))
        found = [FieldError(sent_as(request, item.get("key", "")), plain(str(item["message"]))) for item in error.extra]
        return _answer(request, BadRequest(errors=found))
    kind = _BY_STATUS.get(error.status_code, BadRequest if error.status_code < 500 else InternalError)
    if issubclass(kind, InternalError):
        return _handle_unexpected(request, error)
    return _answer(request, kind())  # without the framework's own words


def plain(message: str) -> str:
    """Return a validator's message in the words of JSON, without the pattern that a text did not match."""
    if "matching regex" in message:
        return "Has a form, or characters, that are not allowed"
    if "UUID" in message:
        return "Expected a UUID"
    return _QUOTED.sub(lambda quoted: _IN_JSON.get(quoted[1], quoted[1]), message)


def sent_as(request: Request[Any, Any, Any], parameter: str) -> str:
    """Return the name that clients use for a handler's parameter: `doctorId` for `doctor_id`."""
    declared = request.route_handler.parsed_fn_signature.parameters.get(parameter)
    return getattr(declared and declared.kwarg_definition, "name", None) or parameter


def methods_at(request: Request[Any, Any, Any]) -> list[str]:
    """Return the methods of the request's path, where GET implies HEAD."""
    allowed = ["OPTIONS"]
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        try:
            request.app.asgi_router.handle_routing(request.scope["path"], method)
        except HTTPException:
            continue
        allowed += ["GET", "HEAD"] if method == "GET" else [method]
    return sorted(allowed)


def _handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    request.scope["state"]["failure"] = error  # for the request's span
    log.error("unhandled exception", request_id=request.scope["state"]["request_id"], exc_info=error)
    return _answer(request, InternalError())


EXCEPTION_HANDLERS: dict[type[Exception] | int, Any] = {
    ProblemError: _handle_problem,
    HTTPException: _handle_http,
    Exception: _handle_unexpected,
}
