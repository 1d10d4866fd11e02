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
from pathlib import Path
from typing import Any

import services as code
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

NAMES = ("auth", "booking", "notification")
Json = dict[str, Any]

_DOCS = Path(__file__).parents[2] / "docs"
SNAPSHOTS = _DOCS / "openapi"
ERRORS = _DOCS / "errors.md"
_ERRORS_PREAMBLE = """\
# Errors

Every response from 400 on is a problem document (RFC 9457). Its `code` is stable: branch on it, and show `title` or
`detail` to people. `make docs` writes this page from the code.

| code | status | title | answered by |
|---|---|---|---|
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


def operations(document: Json) -> dict[str, Json]:
    """Return the operations by method and path, such as `GET /api/auth`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def error_classes() -> list[type[ProblemError]]:
    for module in pkgutil.walk_packages(code.__path__, "services."):
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


def errors_page() -> str:
    rows = {
        (error.code, error.status): f"| `{error.code}` | {error.status} | {error.title} | {', '.join(services)} |\n"
        for error in error_classes()
        if (services := answered_by(error))
    }
    return _ERRORS_PREAMBLE + "".join(rows[key] for key in sorted(rows))


def codes(page: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Describe everything that a client of `old` relies on and `new` breaks."""
    lost = []
    now = operations(new)
    for name, before in operations(old).items():
        after = now.get(name)
        if after is None:
            lost.append(f"{name} is gone")
            continue
        if before["operationId"] != after["operationId"]:
            lost.append(f"{name} has a new operationId")
        lost += _breaking_parameters(name, before, after)
        if "requestBody" in after and "requestBody" not in before:
            lost.append(f"{name} requires a body")
        lost += [
            f"{name} no longer responds with {status}"
            for status in before["responses"].keys() - after["responses"].keys()
            if status < "400"
        ]
    sent = _sent(old)
    for name, schema in old["components"]["schemas"].items():
        if name not in new["components"]["schemas"]:
            lost.append(f"{name} is gone")
        else:
            lost += _breaking_schema(name, schema, new["components"]["schemas"][name], sent=name in sent)
    return lost


def _breaking_parameters(name: str, before: Json, after: Json) -> list[str]:
    lost = []
    was = {(one["in"], one["name"]): one for one in before.get("parameters", [])}
    now = {(one["in"], one["name"]): one for one in after.get("parameters", [])}
    lost += [f"{name} no longer accepts {parameter}" for _, parameter in was.keys() - now.keys()]
    for key, parameter in now.items():
        earlier = was.get(key)
        if parameter["required"] and not (earlier and earlier["required"]):
            lost.append(f"{name} requires {key[1]}")
        if earlier:
            lost += _breaking_schema(f"{name} {key[1]}", earlier["schema"], parameter["schema"], sent=True)
    return lost


def _sent(document: Json) -> set[str]:
    """Return the names of the schemas that requests use."""
    found: set[str] = set()
    waiting: list[Any] = [one["requestBody"] for one in operations(document).values() if "requestBody" in one]
    while waiting:
        names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(waiting.pop()))) - found
        found |= names
        waiting += [document["components"]["schemas"][name] for name in names]
    return found


def _breaking_schema(where: str, old: Json, new: Json, *, sent: bool) -> list[str]:
    lost = [
        f"{where}: {key} was {old.get(key)}, and is {new.get(key)}"
        for key in ("type", "format", "$ref", "const")
        if old.get(key) != new.get(key)
    ]
    lost += [f"{where}: {value} is gone" for value in old.get("enum", []) if value not in new.get("enum", [value])]
    if "oneOf" in old:
        shapes = [_shape(one) for one in new.get("oneOf", [])]
        lost += [f"{where} is no longer {_shape(one)}" for one in old["oneOf"] if _shape(one) not in shapes]
    required, was_required = set(new.get("required", [])), set(old.get("required", []))
    if sent:
        lost += [f"{where}.{field} is required" for field in required - was_required]
    else:
        lost += [f"{where}.{field} may be missing" for field in was_required - required]
    for field, schema in old.get("properties", {}).items():
        if field not in new.get("properties", {}):
            lost.append(f"{where}.{field} is gone")
        else:
            lost += _breaking_schema(f"{where}.{field}", schema, new["properties"][field], sent=sent)
    if isinstance(old.get("items"), dict):
        lost += _breaking_schema(f"{where}[]", old["items"], new.get("items", {}), sent=sent)
    return lost


def _shape(schema: Json) -> Json:
    return {key: schema[key] for key in ("type", "format", "$ref") if key in schema}


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
    return lost


def published(name: str) -> str:
    return json.dumps(document(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if found := write():
        sys.exit("Nothing was written, because it would break clients:\n" + "\n".join(found))
