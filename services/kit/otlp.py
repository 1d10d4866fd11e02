"""OpenTelemetry's SDK: the only module that imports it, and only a process that exports spans imports this one."""

import random
import re
from collections.abc import Mapping
from threading import Thread
from traceback import format_tb

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOWHERE = Context()
_KINDS = {kind.name: kind for kind in SpanKind}
# A dead collector must not use up what Kubernetes grants a pod to end.
_FLUSH_SECONDS = 3.0


class Span:
    __slots__ = ("_span",)

    def __init__(self, span: SdkSpan) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def add(self, attributes: Mapping[str, str | int]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, error: Exception | str) -> None:
        """Record the type of an error, and where it was raised. Its message may have names, addresses and tokens."""
        name = error if isinstance(error, str) else type(error).__name__
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("error.type", name)
        if isinstance(error, Exception):
            stack = "".join(format_tb(error.__traceback__))
            self._span.add_event("exception", {"exception.type": name, "exception.stacktrace": stack})

    def end(self) -> None:
        self._span.end()


class Tracer:
    """Start spans, and export them in a thread of its own. The SDK reads the standard `OTEL_*` variables itself."""

    def __init__(self, service: str) -> None:
        defaults = Resource({"service.name": service})
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create().merge(defaults).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer, self._sampler = self._provider.get_tracer("booking-platform"), self._provider.sampler

    def start(
        self, kind: str, name: str, parent: str | None, attributes: Mapping[str, str | int]
    ) -> tuple[str, Span | None]:
        """Return the `traceparent` of a child of `parent`, or of a new trace, and the span if it is recorded.

        The sampler is asked first: the SDK takes three times as long for a span that it does not record.
        """
        trace_id, context = 0, _NOWHERE
        if parent is not None and (found := _TRACEPARENT.fullmatch(parent)):
            trace_id = int(found[1], 16)
            remote = SpanContext(trace_id, int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))
            context = set_span_in_context(NonRecordingSpan(remote), _NOWHERE)
        trace_id = self._ids.trace_id = trace_id or random.getrandbits(128)
        sdk_kind = _KINDS[kind]
        sampled = self._sampler.should_sample(context, trace_id, name, sdk_kind, attributes)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return f"00-{trace_id:032x}-{random.getrandbits(64):016x}-00", None
        span = Span(self._tracer.start_span(name, context, sdk_kind, attributes))
        return span.traceparent, span

    def close(self) -> None:
        """Send what has ended. A thread of its own, because the SDK waits half a minute for a dead collector."""
        flushing = Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)


class _Ids(RandomIdGenerator):
    """Give a new trace the id for which the sampler was asked."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id
