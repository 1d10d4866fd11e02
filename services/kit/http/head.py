"""What the middleware takes from a request's headers, and which of them refuse the request."""

from email.message import Message
from typing import NamedTuple

from litestar.types import HTTPScope

from services.kit.errors import BadRequest, FieldError, ProblemError, UnsupportedMediaType

_JSON_TYPES = {"application/json", "application/merge-patch+json"}
_CHARSETS = {None, "utf-8", "utf8", "us-ascii"}
_WITH_BODY = {"POST", "PUT", "PATCH", "DELETE"}
# Headers of one value. Two lines with two values may mean one thing to a proxy and another to the service.
_SINGLE = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
    b"last-event-id": "Last-Event-ID",
    b"x-otp": "X-OTP",
}


class Head(NamedTuple):
    authorization: bytes
    request_id: bytes
    traceparent: bytes
    forwarded_for: str
    origin: bytes
    refusal: ProblemError | None


def read_head(scope: HTTPScope) -> Head:
    authorization = content_type = request_id = traceparent = origin = content_encoding = b""
    forwarded_for = ""
    has_body = False
    headers = scope["headers"]
    names = set()
    for name, value in headers:
        names.add(name)
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"x-request-id":
            request_id = value
        elif name == b"traceparent":
            traceparent = value
        elif name == b"x-forwarded-for":
            forwarded_for += "," + value.decode("latin-1")
        elif name == b"content-length":
            has_body = value != b"0"
        elif name == b"transfer-encoding":
            has_body = True
        elif name == b"origin":
            origin = value
        elif name == b"content-encoding":
            content_encoding += b"," + value
    refusal = _repeated(scope) if len(names) < len(list(headers)) else None
    if refusal is None and has_body and scope["method"] in _WITH_BODY:
        refusal = _unreadable(content_type, content_encoding)
    return Head(authorization, request_id, traceparent, forwarded_for, origin, refusal)


def _repeated(scope: HTTPScope) -> ProblemError | None:
    """Refuse two values of a single header, and join the lines of `If-Match`, a list (RFC 9110, section 5.3)."""
    lines: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        lines.setdefault(name, []).append(value)
    if twice := [
        FieldError(shown, "Sent twice") for name, shown in _SINGLE.items() if len(set(lines.get(name, ()))) > 1
    ]:
        return BadRequest(errors=twice)
    if tags := lines.get(b"if-match"):
        others = [header for header in scope["headers"] if header[0] != b"if-match"]
        scope["headers"] = [*others, (b"if-match", b",".join(tags))]
    return None


def _unreadable(content_type: bytes, content_encoding: bytes) -> ProblemError | None:
    codings = {coding.strip().lower() for coding in content_encoding.split(b",")} - {b"", b"identity"}
    if codings:
        return UnsupportedMediaType("The body is compressed", headers={"Accept-Encoding": "identity"})
    if content_type == b"application/json":
        return None
    accepted = {"Accept": ", ".join(sorted(_JSON_TYPES))}
    if not content_type:
        return UnsupportedMediaType("The body has no `Content-Type`", headers=accepted)
    parsed = Message()
    parsed["content-type"] = content_type.decode("latin-1")
    if parsed.get_content_type() not in _JSON_TYPES:
        return UnsupportedMediaType("The body's `Content-Type` is not JSON", headers=accepted)
    if parsed.get_content_charset() not in _CHARSETS:
        return UnsupportedMediaType("The body's charset is not UTF-8", headers=accepted)
    return None
