"""GET /api/docs: where the documents of the platform's services are."""

from litestar import MediaType, get

from services.kit.http.guards import PUBLIC

_SERVICES = {
    "auth": "accounts, sign-in, doctors and patients",
    "booking": "appointments and their history",
    "notification": "what people are told",
}
_ITEMS = "\n".join(
    f'<li><a href="/api/docs/{name}">{name}</a>: {about} (<a href="/api/docs/{name}/openapi.json">OpenAPI</a>)</li>'
    for name, about in _SERVICES.items()
)
_PAGE = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Booking platform: API documents</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; line-height: 1.6 }}</style>
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
def document_index() -> str:
    return _PAGE
