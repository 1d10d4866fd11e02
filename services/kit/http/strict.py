"""Strict input: bodies are decoded without conversion, and null is refused in a query."""

from contextlib import suppress
from functools import cache
from typing import Any

import msgspec
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from services.kit.errors import BadRequest, FieldError, MalformedJson
from services.kit.http.problems import plain, sent_as
from services.kit.schema import form_of


async def refuse_null(request: Any) -> None:
    """Refuse `?unread=null`, which msgspec would read as absent; a text, as in `?q=null`, may be this word."""
    if b"=null" not in request.scope["query_string"].lower():
        return
    wrong = [
        FieldError(name, "must not be null; omit it")
        for parameter, field in request.route_handler.parsed_fn_signature.parameters.items()
        if (name := sent_as(request, parameter)) in request.query_params
        and str not in (field.annotation, *field.args)
        and "null" in map(str.lower, request.query_params.getall(name))
    ]
    if wrong:
        raise BadRequest(errors=wrong)


@cache
def _decoder(body: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(body, strict=True)


class StrictBody(AbstractDTO[Any]):
    """Decode a request's body strictly, and name every field that is wrong.

    Litestar's own decoding converts: it accepts `"30"` as 30, and 1700000000 as a time. 30.0, though, is an integer in
    JSON Schema and in JavaScript.
    """

    def decode_bytes(self, value: bytes) -> Any:
        handler: Any = self.asgi_connection.route_handler
        body = handler.parsed_data_field.annotation
        try:
            # First, because msgspec reports a wrong field before it comes to bytes that are no text.
            value.decode()
        except UnicodeDecodeError:
            raise MalformedJson from None
        try:
            return _decoder(body).decode(value)
        except msgspec.ValidationError as error:
            document = _document(value)
            with suppress(msgspec.ValidationError):
                return msgspec.convert(document, body)
            raise BadRequest(errors=_field_errors(body, document, error)) from None
        except (msgspec.DecodeError, RecursionError):
            raise MalformedJson from None

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None: ...

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Any:
        raise NotImplementedError

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        return False


def _document(sent: bytes) -> Any:
    """Return the JSON with its integers as such, also those written like 30.0; None for what has no such form."""
    try:
        return _with_integers(msgspec.json.decode(sent))
    except (msgspec.DecodeError, RecursionError):
        return None


def _with_integers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_with_integers(one) for one in value]
        case dict():
            return {name: _with_integers(one) for name, one in value.items()}
    return value


def _field_errors(body: type[msgspec.Struct], document: Any, first: msgspec.ValidationError) -> list[FieldError]:
    """Return all errors, for a user with a form: msgspec itself stops at the first one."""
    if not isinstance(document, dict):
        return [_field_error("", first)]
    fields = {field.encode_name: field for field in msgspec.structs.fields(body)}
    errors = [FieldError(name, "Unknown field") for name in sorted(document.keys() - fields.keys())]
    for name, field in fields.items():
        if name in document:
            try:
                value = msgspec.convert(document[name], field.type)
                if value is not None and (normalized := form_of(field.type)) is not None:
                    normalized(value)
            except msgspec.ValidationError as error:
                errors.append(_field_error(name, error))
            except ValueError as error:
                errors.append(FieldError(name, str(error)))
        elif field.required:
            errors.append(FieldError(name, "Required"))
    return errors or [_field_error("", first)]


def _field_error(name: str, error: msgspec.ValidationError) -> FieldError:
    message, _, path = str(error).partition(" - at `$")
    return FieldError(f"{name}{path.rstrip('`')}".lstrip("."), plain(message))
