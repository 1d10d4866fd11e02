"""Completion of the OpenAPI document by what is true of every operation: common errors, closed requests, examples."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from services.kit.errors import (
    PROBLEM_JSON,
    BadRequest,
    ContentTooLarge,
    MalformedJson,
    ProblemError,
    TooManyRequests,
    UnsupportedMediaType,
)
from services.kit.http.guards import PUBLIC
from services.kit.http.responses import problem_example

Json = dict[str, Any]

_COMPONENTS = "#/components/schemas/"
_FORMATS = {
    "uuid": "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073",
    "date-time": "2026-12-01T09:30:00Z",
    "date-time-local": "2026-12-01T10:30:00",
}
_OF_A_BODY: tuple[type[ProblemError], ...] = (BadRequest, MalformedJson, ContentTooLarge, UnsupportedMediaType)


def completed(generated: Json) -> Json:
    """Return Litestar's document as it is published."""
    document = _renamed(deepcopy(generated))
    schemas = document["components"]["schemas"]
    # Sorted, because Litestar takes the order of some from sets: every process must publish the same bytes.
    document["paths"] = {path: dict(sorted(methods.items())) for path, methods in sorted(document["paths"].items())}
    for operation in operations(document):
        if operation.get("security") == PUBLIC:
            operation["security"] = []  # means the same, and generators of clients understand it
        _may_answer(operation, (TooManyRequests,))  # every request counts against a quota
        for parameter in operation.get("parameters", []):
            parameter["schema"] = _without_null(parameter["schema"])
        if "requestBody" in operation:
            _may_answer(operation, _OF_A_BODY)
            for media in operation["requestBody"]["content"].values():
                _close(media["schema"], schemas)
                media["example"] = _example(media["schema"], schemas, request=True)
        for answer in operation["responses"].values():
            if "headers" in answer:
                for header in answer["headers"].values():
                    header.setdefault("schema", {"type": "string"})
                answer["headers"] = dict(sorted(answer["headers"].items()))
            for kind, media in answer.get("content", {}).items():
                if kind == "application/json":
                    kinds = media["schema"].get("oneOf", [])
                    if kinds and all(kind["$ref"].endswith("Page") for kind in kinds):
                        media["schema"] = {"anyOf": kinds}  # an empty page is a page of anything
                    media["example"] = _example(media["schema"], schemas)
        operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def operations(document: Json) -> Iterator[Json]:
    for methods in document["paths"].values():
        yield from methods.values()


def _renamed(document: Json) -> Json:
    """Rename `Page[Appointment]`, which has a module's name in it, to AppointmentPage, for generated clients."""
    schemas = document["components"]["schemas"]
    names = {}
    for name, schema in schemas.items():
        if name.startswith("Page_"):
            names[name] = schema["title"] = schema["title"].removeprefix("Page[").removesuffix("]") + "Page"
    document["components"]["schemas"] = {names.get(name, name): schema for name, schema in sorted(schemas.items())}
    for node in _nodes(document):
        reference = node.get("$ref")
        if isinstance(reference, str):
            name = reference.removeprefix(_COMPONENTS)
            node["$ref"] = _COMPONENTS + names.get(name, name)
    return document


def _nodes(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _without_null(schema: Json) -> Json:
    """Remove null from a parameter's schema: Litestar calls nullable what can be omitted."""
    kinds = [kind for kind in schema.get("oneOf", []) if kind.get("type") != "null"]
    return (
        {**kinds[0], **{key: value for key, value in schema.items() if key != "oneOf"}} if len(kinds) == 1 else schema
    )


def _may_answer(operation: Json, errors: tuple[type[ProblemError], ...]) -> None:
    for error in errors:
        answer = operation["responses"].setdefault(str(error.status), {"description": "", "content": {}})
        schema = {"$ref": f"{_COMPONENTS}Problem"}
        examples = answer["content"].setdefault(PROBLEM_JSON, {"schema": schema, "examples": {}})["examples"]
        if error.code not in examples:
            answer["description"] = f"{answer['description']} `{error.code}`: {error.title}.".strip()
            examples[error.code] = {"summary": error.title, "value": problem_example(error)}


def _close(schema: Json, schemas: Json) -> None:
    """Say that unknown fields are refused."""
    for node in _nodes(_resolved(schema, schemas)):
        if "properties" in node:
            node["additionalProperties"] = False


def _resolved(schema: Json, schemas: Json) -> Json:
    while "$ref" in schema:
        schema = schemas[schema["$ref"].removeprefix(_COMPONENTS)]
    return schema


def _example(schema: Json, schemas: Json, name: str = "", *, request: bool = False) -> Any:
    """Make an example from those of the fields; a field without one is null where null is allowed.

    A request has the required fields only, or the last field where none is required.
    """
    schema = {**_resolved(schema, schemas), **{key: value for key, value in schema.items() if key != "$ref"}}
    for told in ("examples", "enum"):
        if told in schema:
            return schema[told][0]
    if "const" in schema:
        return schema["const"]
    if kinds := schema.get("oneOf", schema.get("anyOf")):
        return None if {"type": "null"} in kinds else _example(kinds[0], schemas, name)
    if "properties" in schema:
        fields = list(schema["properties"])
        if request:
            fields = [field for field in fields if field in schema["required"]] or fields[-1:]
        return {field: _example(schema["properties"][field], schemas, field) for field in fields}
    match schema.get("type"):
        case "object":
            inner = schema.get("additionalProperties")
            return {name: _example(inner, schemas)} if isinstance(inner, dict) else {}
        case "array":
            return [_example(schema["items"], schemas, name)]
        case "integer":
            return int(schema.get("minimum", 1))
        case "number":
            return 0.6
        case "boolean":
            return False
    return _FORMATS.get(schema.get("format", ""), name)
