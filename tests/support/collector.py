"""A collector of OpenTelemetry: an HTTP server that decodes what OTLP exporters send."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Exporting = Callable[..., AbstractContextManager[None]]


class Received(NamedTuple):
    """A span as the collector sees it. `text` is all that was sent, apart from ids and times."""

    resource: dict[str, Any]
    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    failed: bool
    text: str

    @property
    def service(self) -> str:
        return str(self.resource["service.name"])


class Collector:
    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.requests = 0

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces", path
        self.requests += 1
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            self.spans += [_received(resource, span) for scope in group.scope_spans for span in scope.spans]

    def trace(self, trace_id: str) -> list[Received]:
        return [span for span in self.spans if span.trace_id == trace_id]


def _received(resource: dict[str, Any], span: ProtoSpan) -> Received:
    attributes, events = _values(span.attributes), [_values(event.attributes) for event in span.events]
    return Received(
        resource,
        span.name,
        ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        attributes,
        events,
        span.status.code == Status.STATUS_CODE_ERROR,
        f"{resource} {span.name} {attributes} {events} {span.status.message}",
    )


def _values(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in attributes:
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
    return found


@contextmanager
def collecting(collector: Collector) -> Iterator[str]:
    """Serve the collector for the length of the block, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()
