"""GET /api/docs: a page that lists the API documents of the services."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

from litestar import MediaType, Request, get

from services.kit.http.guards import PUBLIC

_SERVICES = {
    "auth": "accounts, sign-in, doctors and patients",
    "booking": "appointments and their history",
    "notification": "notifications, live and by mail",
}
_ITEMS = "\n".join(
    f'<li><a href="/api/docs/{name}">{name}</a>: {about} (<a href="/api/docs/{name}/openapi.json">OpenAPI</a>)</li>'
    for name, about in _SERVICES.items()
)
_STYLE = "body { font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; line-height: 1.6 }"
_CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Booking platform: API documents</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>API documents</h1>
<ul>
{_ITEMS}
</ul>
</body>
</html>
"""


@get("/api/docs", media_type=MediaType.HTML, include_in_schema=False, security=PUBLIC, sync_to_thread=False)
def document_index(request: Request[Any, Any, Any]) -> str:
    request.scope["state"]["content_policy"] = _CONTENT_POLICY
    return _PAGE
