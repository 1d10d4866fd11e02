"""What the wire is made of: camelCase structs, bounded field types, strict bodies, keyset pages."""

import base64
import binascii
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition
from msgspec import Meta

from services.kit.errors import BadRequest, FieldError, sent_as

T = TypeVar("T")

# PostgreSQL refuses NUL in text, and control characters forge log lines and mail headers: no field takes them.
# The look-ahead ends the pattern because Python's `$` also matches before a last newline.
Line = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*(?![\s\S])"),
]
Text = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*(?![\s\S])")]
Instant = Annotated[datetime, Meta(tz=True)]
INSTANT = {"format": "date-time"}  # of a query parameter that `parse_instant` reads
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many items to answer with")]
Cursor = Annotated[str | None, QueryParameter(max_length=2000, description="`nextCursor` of the page before this one")]


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A body that a client sends: unknown fields are refused."""


class Wire(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """A body that the platform sends."""


class Page(msgspec.Struct, Generic[T], rename="camel", kw_only=True, frozen=True):
    items: list[T]
    next_cursor: Annotated[str, Meta(examples=["WyIyMDI2LTEyLTAxIl0"])] | None


def encode_cursor(*position: str | int | float | None) -> str:
    """The keyset position of the last row of a page, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, shape: type[T]) -> T:
    """Read back what `encode_cursor` wrote; anything else, a NUL in it included, is a 400."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if b"\\u0000" in raw:
            raise ValueError
        return msgspec.json.decode(raw, type=shape)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadRequest(errors=[FieldError("cursor", "Not a cursor of this list")]) from None


def parse_instant(text: str | None, name: str) -> datetime | None:
    """An RFC 3339 instant out of a query parameter; Litestar itself would take naive times and epoch numbers."""
    if text is None:
        return None
    try:
        return msgspec.convert(text, Instant)
    except msgspec.ValidationError:
        message = "Expected an RFC 3339 instant such as 2026-12-01T09:30:00Z"
        raise BadRequest(errors=[FieldError(name, message)]) from None


async def refuse_null(request: Any) -> None:
    """Before a handler: msgspec takes `?unread=null` for an absent value, and `?q=null` is somebody's name."""
    if b"=null" not in request.scope["query_string"].lower():
        return
    wrong = [
        FieldError(name, "null is no value here: leave it out")
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
    """Decodes a request's body strictly and names every wrong field.

    Litestar's own decoding converts: `"30"` would be taken for 30 and 1700000000 for a time.
    """

    def decode_bytes(self, value: bytes) -> Any:
        handler: Any = self.asgi_connection.route_handler
        body = handler.parsed_data_field.annotation
        try:
            return _decoder(body).decode(value)
        except msgspec.ValidationError as error:
            raise BadRequest(errors=_field_errors(body, value, error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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


class MalformedJson(BadRequest):
    code, title = "malformed_json", "The body is not valid JSON"


def _field_errors(body: type[msgspec.Struct], value: bytes, first: msgspec.ValidationError) -> list[FieldError]:
    """msgspec stops at the first error; a person with a form wants to see all of them."""
    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return [_field_error("", first)]
    fields = {field.encode_name: field for field in msgspec.structs.fields(body)}
    errors = [FieldError(name, "Unknown field") for name in sorted(document.keys() - fields.keys())]
    for name, field in fields.items():
        if name in document:
            try:
                msgspec.convert(document[name], field.type)
            except msgspec.ValidationError as error:
                errors.append(_field_error(name, error))
        elif field.required:
            errors.append(FieldError(name, "Required"))
    return errors or [_field_error("", first)]


def _field_error(name: str, error: msgspec.ValidationError) -> FieldError:
    message, _, path = str(error).partition(" - at `$")
    return FieldError(f"{name}{path.rstrip('`')}".lstrip("."), message.replace("`", ""))
