"""Spans of the trace that every request and event carries as its `traceparent`.

Unless an `OTEL_*` variable names a collector, nothing is recorded, and OpenTelemetry is not even imported. Spans have
no path, query, address, name or message: only what says which work was done, for which route or event, and how it went.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from services.kit.log import traceparent
from services.kit.settings import HttpUrl, SettingsError, load

if TYPE_CHECKING:
    from services.kit.otlp import Span, Tracer

Kind = Literal["SERVER", "CLIENT", "PRODUCER", "CONSUMER"]

_Protocol = Annotated[str, Meta(pattern="^http/protobuf$", description="http/protobuf, the one that is installed")]


class ExportSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """The standard variables that decide whether spans are exported; the SDK reads these and all others itself."""

    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_exporter_otlp_traces_endpoint: HttpUrl | None = None
    otel_exporter_otlp_protocol: _Protocol = "http/protobuf"
    otel_exporter_otlp_traces_protocol: _Protocol = "http/protobuf"
    otel_traces_exporter: Annotated[str, Meta(pattern="^(otlp|none)$", description="otlp or none")] = "otlp"
    otel_sdk_disabled: str = "false"
    otel_traces_sampler: Annotated[
        str,
        Meta(
            pattern="^(parentbased_)?(always_on|always_off|traceidratio)$",
            description="always_on, always_off or traceidratio, alone or after parentbased_",
        ),
    ] = "parentbased_always_on"
    otel_traces_sampler_arg: Annotated[float, Meta(ge=0, le=1, description="a share from 0 to 1")] = 1.0

    @property
    def is_on(self) -> bool:
        endpoint = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return bool(endpoint) and self.otel_traces_exporter == "otlp" and self.otel_sdk_disabled.lower() != "true"


_tracer: "Tracer | None" = None


@contextmanager
def exporting(service: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Export the block's spans if `environment` says where to, and send the last ones at its end.

    Raises `SettingsError` for a malformed variable, and where OpenTelemetry is not installed.
    """
    global _tracer
    if not load(ExportSettings, environment).is_on:
        yield
        return
    try:
        otlp = import_module("services.kit.otlp")
    except ModuleNotFoundError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: build the image with "
            "`--build-arg OPENTELEMETRY=1`, or set OTEL_SDK_DISABLED=true"
        ) from None
    _tracer = tracer = otlp.Tracer(service)
    try:
        yield
    finally:
        _tracer = None
        tracer.close()


def is_on() -> bool:
    return _tracer is not None


def begin(kind: Kind, name: str, parent: str | None, attributes: Mapping[str, str | int]) -> "Span | None":
    """Make a new span the current one, and return it if it is recorded: the caller then ends it."""
    if _tracer is None:
        traceparent.set(parent)
        return None
    current, span = _tracer.start(kind, name, parent, attributes)
    traceparent.set(current)
    return span


@contextmanager
def child_of(parent: str | None, kind: Kind, name: str, attributes: Mapping[str, str | int]) -> Iterator["Span | None"]:
    """Run the block in a span. When nothing is exported, `parent` itself is current in it."""
    outer = traceparent.get()
    span = begin(kind, name, parent, attributes)
    try:
        yield span
    except Exception as error:
        if span is not None:
            span.fail(error)
        raise
    finally:
        traceparent.set(outer)
        if span is not None:
            span.end()


def message(
    operation: Literal["send", "process"], system: str, destination: str, message_id: UUID, parent: str | None
) -> AbstractContextManager["Span | None"]:
    """Run a block in the span of a message that waits in `destination` between two processes."""
    attributes = {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
        "messaging.message.id": str(message_id),
    }
    return child_of(parent, "PRODUCER" if operation == "send" else "CONSUMER", f"{operation} {destination}", attributes)
