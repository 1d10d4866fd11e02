"""What of a published OpenAPI document a newer one breaks for clients."""

import json
import re
from typing import Any

Json = dict[str, Any]


def operations(document: Json) -> dict[str, Json]:
    """Return the operations by method and path, such as `GET /api/auth`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


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
