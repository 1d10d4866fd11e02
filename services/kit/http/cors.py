"""Cross-origin requests: which other origins' pages a browser lets call the platform (the Fetch standard, section 3.3).

The middleware and the server's protocol answer requests that the framework never sees, so that its own CORS support
would leave a page without the reason of a refusal.
"""

# A test compares them with the documents: every header that an operation takes, and what the middleware reads.
REQUEST_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "traceparent", "tracestate",
    "X-OTP", "X-Request-ID",
)  # fmt: skip
RESPONSE_HEADERS = (
    "Accept", "Accept-Encoding", "Allow", "Deprecation", "ETag", "Idempotency-Replayed", "Location", "RateLimit",
    "RateLimit-Policy", "Retry-After", "Sunset", "WWW-Authenticate", "X-Request-ID",
)  # fmt: skip
_VARY = (b"vary", b"Origin")
_EXPOSE = (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode())
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
    (b"access-control-max-age", b"600"),
]


class Cors:
    """The origins of `CORS_ORIGINS`. Credentials are tokens in a header, never cookies, so that none are allowed."""

    def __init__(self, origins: str) -> None:
        self._origins = frozenset(origin.encode() for origin in origins.split(",") if origin)
        self.any_origin = [(b"access-control-allow-origin", b"*"), _EXPOSE] if self._origins else []

    def headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """Return what lets a page of `origin` read an answer. A cache must not serve it to another origin."""
        if not self._origins:
            return []
        if origin not in self._origins:
            return [_VARY]
        return [(b"access-control-allow-origin", origin), _EXPOSE, _VARY]

    def preflight(self, origin: bytes, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return what answers the question before a request; nothing if this is none, or of an unlisted origin."""
        asks = any(name == b"access-control-request-method" for name, _ in headers)
        return _PREFLIGHT if asks and origin in self._origins else []
