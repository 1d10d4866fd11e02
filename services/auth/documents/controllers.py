"""The pages for integrators: where to begin, and what each error means."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, get

from services.kit.errors import ERRORS_PAGE
from services.kit.http.guards import PUBLIC

_STYLE = """\
:root { color-scheme: light dark }
body { font: 1rem/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; overflow-wrap: anywhere }
h1 { line-height: 1.2 }
h2 { border-top: 1px solid #8886; margin: 2rem 0 .5rem; padding-top: 1rem; font-size: 1.2rem }
section:target { outline: 2px solid #46c; outline-offset: .5rem }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { background: #8882; border-radius: .4rem; padding: .8rem; white-space: pre-wrap }
dt { font-weight: 600 }
dd { margin: 0 0 .6rem }
"""
_CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(title: str, file: str) -> str:
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{Path(__file__).with_name(file).read_text()}</body>
</html>
"""


_BEGINNING = _page("Booking platform: the API", "beginning.html")
_ERRORS = _page("Booking platform: errors", "errors.html")  # `make docs` writes the file from the errors' classes


@get("/api/docs", media_type=MediaType.HTML, include_in_schema=False, security=PUBLIC, sync_to_thread=False)
def beginning(request: Request[Any, Any, Any]) -> str:
    request.scope["state"]["content_policy"] = _CONTENT_POLICY
    return _BEGINNING


@get(ERRORS_PAGE, media_type=MediaType.HTML, include_in_schema=False, security=PUBLIC, sync_to_thread=False)
def errors(request: Request[Any, Any, Any]) -> str:
    request.scope["state"]["content_policy"] = _CONTENT_POLICY
    return _ERRORS
