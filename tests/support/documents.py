"""The published description of the API: three OpenAPI documents and the page of error codes.

`make docs` writes them into docs/. It refuses to write anything that would break clients of what was published.
"""

import importlib
import json
import pkgutil
import re
import secrets
import sys
import tempfile
from functools import cache
from html import escape
from pathlib import Path

import services as every_service
from services.auth.app import create as create_auth
from services.auth.sessions.keys import rotate
from services.auth.settings import Settings as AuthSettings
from services.booking.app import create as create_booking
from services.booking.settings import Settings as BookingSettings
from services.kit.errors import HeadersTooLarge, InternalError, MethodNotAllowed, ProblemError, RequestTimeout
from services.kit.http.openapi import completed
from services.kit.http.service import Service
from services.kit.settings import load
from services.notification.app import create as create_notification
from services.notification.settings import Settings as NotificationSettings
from tests.support.compatibility import Json, breaking_changes, operations

NAMES = ("auth", "booking", "notification")

_DOCS = Path(__file__).parents[2] / "docs"
SNAPSHOTS = _DOCS / "openapi"
ERRORS = _DOCS / "errors.md"
ERRORS_HTML = _DOCS.parent / "services/auth/documents/errors.html"
_ERRORS_PREAMBLE = """\
# Errors

Every response from 400 on is a problem document (RFC 9457) with `type`, `title`, `status`, `detail`, `code` and
`requestId`; where fields are wrong, `errors` has the path and the message of each. The `code` is stable: branch on it.
`title` is the same for every error of a code, `detail` says what was wrong this time and what to do: show it to people.
`type` is a page of the platform, `/api/docs/errors`, with the content of this one. `make docs`
writes both from the code.

| code | status | title | when it happens | what a client does | answered by |
|---|---|---|---|---|---|
"""
_HTML_PREAMBLE = """\
<p>Every answer from 400 on is <code>application/problem+json</code> (RFC 9457). Branch on its <code>code</code>, which
is stable, and show people its <code>detail</code>. Quote its <code>requestId</code> when you ask for help.
<a href="/api/docs">Where to begin</a>.</p>
"""
# Possible for every operation: a method that the path does not support, a bug, and what the server refuses before the
# service sees a request.
_ANYWHERE: tuple[type[ProblemError], ...] = (MethodNotAllowed, InternalError, HeadersTooLarge, RequestTimeout)


@cache
def services() -> dict[str, Service]:
    """Create the services with placeholder settings, to which nothing ever connects."""
    with tempfile.TemporaryDirectory(prefix="booking-platform-documents-") as folder:
        keys = Path(folder) / "signing-keys.json"
        rotate(keys)
        environment = {
            "AUTH_DATABASE_URL": "postgresql://nowhere.test/auth",
            "AUTH_INTERNAL_URL": "http://nowhere.test",
            "AUTH_SECRET_KEY": secrets.token_hex(),
            "NOTIFICATION_SECRET_KEY": secrets.token_hex(),
            "AUTH_SIGNING_KEYS_FILE": str(keys),
            "BOOKING_DATABASE_URL": "postgresql://nowhere.test/booking",
            "BOOKING_INTERNAL_URL": "http://nowhere.test",
            "AUTH_TO_BOOKING_TOKEN": secrets.token_hex(),
            "BOOKING_TO_AUTH_TOKEN": secrets.token_hex(),
            "NOTIFICATION_TO_AUTH_TOKEN": secrets.token_hex(),
            "JWKS_URL": "http://nowhere.test",
            "MONGODB_URL": "mongodb://nowhere.test",
            "REDIS_URL": "redis://nowhere.test",
        }
        return {
            "auth": create_auth(load(AuthSettings, environment)),
            "booking": create_booking(load(BookingSettings, environment)),
            "notification": create_notification(load(NotificationSettings, environment)),
        }


@cache
def document(name: str) -> Json:
    published: Json = json.loads(json.dumps(completed(services()[name].litestar.openapi_schema.to_schema())))
    return published


def error_classes() -> list[type[ProblemError]]:
    for module in pkgutil.walk_packages(every_service.__path__, "services."):
        if module.name.endswith((".errors", ".schema", ".auth")):
            importlib.import_module(module.name)
    found: list[type[ProblemError]] = []
    waiting: list[type[ProblemError]] = [ProblemError]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if one.__module__.startswith("services."):
            found.append(one)
    return found


def answered_by(error: type[ProblemError]) -> list[str]:
    """Return the services whose documents name the error."""
    if error in _ANYWHERE:
        return list(NAMES)
    found = []
    for name in NAMES:
        for operation in operations(document(name)).values():
            answer = operation["responses"].get(str(error.status), {})
            if any(error.code in media.get("examples", {}) for media in answer.get("content", {}).values()):
                found.append(name)
                break
    return found


def _answered() -> dict[tuple[str, int], tuple[type[ProblemError], list[str]]]:
    found = {
        (error.code, error.status): (error, services) for error in error_classes() if (services := answered_by(error))
    }
    return dict(sorted(found.items()))


def errors_page() -> str:
    return _ERRORS_PREAMBLE + "".join(
        f"| `{code}` | {status} | {error.title} | {error.when} | {error.remedy} | {', '.join(services)} |\n"
        for (code, status), (error, services) in _answered().items()
    )


def errors_html() -> str:
    """Return the same for browsers: a section for each code, which `type` leads to."""
    sections = {}
    for (code, _), (error, services) in _answered().items():
        statuses = " or ".join(str(status) for other, status in _answered() if other == code)
        sections[code] = f"""\
<section id="{code}">
<h2><code>{code}</code> ({statuses})</h2>
<p>{_html(error.title)}.</p>
<dl>
<dt>When it happens</dt><dd>{_html(error.when)}</dd>
<dt>What a client does</dt><dd>{_html(error.remedy)}</dd>
<dt>Answered by</dt><dd>{", ".join(services)}</dd>
</dl>
</section>
"""
    return _HTML_PREAMBLE + "".join(sections.values())


def _html(sentence: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence, quote=False))


def codes(page: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))


def write() -> list[str]:
    """Write everything, or nothing if that would break clients; return what would break."""
    lost = []
    for name in NAMES:
        if (path := SNAPSHOTS / f"{name}.json").exists():
            lost += [f"{name}: {what}" for what in breaking_changes(json.loads(path.read_text()), document(name))]
    page = errors_page()
    if ERRORS.exists():
        lost += [f"the code {name} with {status} is gone" for name, status in codes(ERRORS.read_text()) - codes(page)]
    if not lost:
        SNAPSHOTS.mkdir(exist_ok=True)
        for name in NAMES:
            (SNAPSHOTS / f"{name}.json").write_text(published(name))
        ERRORS.write_text(page)
        ERRORS_HTML.write_text(errors_html())
    return lost


def published(name: str) -> str:
    return json.dumps(document(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if found := write():
        sys.exit("Nothing was written, because it would break clients:\n" + "\n".join(found))
