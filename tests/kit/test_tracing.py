"""What a span says, when there is one, and that there is none unless a variable names a collector."""

import subprocess
import sys

import pytest

from services.kit import tracing
from services.kit.errors import Unavailable
from services.kit.internal import InternalClient
from services.kit.log import traceparent
from services.kit.settings import SettingsError
from tests.kit.postgres.relaying import published, relay_of
from tests.kit.streams.consuming import ConsumingService, nothing_is_pending
from tests.support.collector import ENDPOINT, Collector, Exporting
from tests.support.process import free_ports
from tests.support.store import STREAM, Store
from tests.support.waiting import eventually, running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = f"00-{TRACE}-{PARENT}-01"


WITHOUT_A_COLLECTOR = """
import sys
import services.auth.cli, services.booking.cli, services.notification.cli
from services.kit import tracing
endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
for more in ({"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}):
    with tracing.exporting("x", endpoint | more), tracing.child_of(None, "CLIENT", "work", {}) as span:
        assert span is None
sdk = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf", "services.kit.otlp")
print([name for name in sys.modules if name.startswith(sdk)])
"""


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    """redis imports its interfaces where they are installed; the SDK and the exporter must stay out."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_COLLECTOR], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENDPOINT, "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_a_malformed_variable_ends_the_start_with_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is malformed: expected "):
        tracing.exporting("notes", {ENDPOINT: "http://collector:4318", name: value}).__enter__()


def test_a_collector_without_opentelemetry_ends_the_start_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.kit.otlp", None)
    with pytest.raises(SettingsError, match="OPENTELEMETRY=1"):
        tracing.exporting("notes", {ENDPOINT: "http://collector:4318"}).__enter__()


@pytest.mark.parametrize(
    ("sampler", "argument", "flags", "kept"),
    [
        ("always_off", "1", "01", False),
        ("traceidratio", "0", "01", False),
        ("traceidratio", "1", "00", True),
        ("parentbased_traceidratio", "0", "01", True),
        ("parentbased_always_on", "1", "00", False),
    ],
)
async def test_the_sampler_of_the_variables_decides(
    exporting: Exporting, collector: Collector, sampler: str, argument: str, flags: str, kept: bool
) -> None:
    with exporting(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument):
        with tracing.child_of(f"00-{TRACE}-{PARENT}-{flags}", "CLIENT", "work", {}) as span:
            current = traceparent.get()
            assert current is not None
        assert (span is not None) == kept
    assert len(collector.spans) == kept
    _, trace_id, span_id, passed_on = current.split("-")
    assert (trace_id, int(passed_on, 16) & 1) == (TRACE, kept)
    assert span_id != PARENT


async def test_of_new_traces_the_sampled_share_is_recorded_under_its_ids(
    exporting: Exporting, collector: Collector
) -> None:
    traces = set()
    with exporting(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5"):
        for _ in range(400):
            with tracing.child_of(None, "CLIENT", "work", {}) as span:
                if span is not None:
                    traces.add(str(traceparent.get()).split("-")[1])
    assert {span.trace_id for span in collector.spans} == traces
    assert 100 < len(traces) < 300


async def test_an_internal_call_is_a_span_without_its_path(exporting: Exporting, collector: Collector) -> None:
    (port,) = free_ports(1)
    client = InternalClient(f"http://127.0.0.1:{port}", "t" * 32)
    with exporting(), tracing.child_of(SENT, "SERVER", "GET", {}), pytest.raises(Unavailable):
        await client.get("/internal/secret", dict, q="secret")
    await client.close()
    call, request = collector.spans
    assert (call.kind, call.name, call.parent_id, call.trace_id) == ("CLIENT", "GET", request.id, TRACE)
    assert call.attributes == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
        "error.type": "ConnectError",
    }
    assert "secret" not in call.text


async def test_an_event_is_a_span_where_it_is_sent_and_where_it_is_handled(
    store: Store, exporting: Exporting, collector: Collector
) -> None:
    consuming = ConsumingService()
    with exporting():
        with tracing.child_of(SENT, "SERVER", "POST", {}):
            (event_id,) = await store.write()
        async with running(relay_of(store).run, consuming.consumer(store).run):
            await published(store)
            await eventually(lambda: bool(consuming.handled))
            await nothing_is_pending(store)
    request, sent, handled = collector.spans
    assert [(span.kind, span.name, span.parent_id) for span in (request, sent, handled)] == [
        ("SERVER", "POST", PARENT),
        ("PRODUCER", f"send {STREAM}", request.id),
        ("CONSUMER", f"process {STREAM}", sent.id),
    ]
    assert handled.attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": STREAM,
        "messaging.message.id": str(event_id),
    }
    assert consuming.handled[0].traceparent == f"00-{TRACE}-{handled.id}-01"


async def test_a_dead_letter_is_an_error(store: Store, exporting: Exporting, collector: Collector) -> None:
    async def fail(_: object) -> None:
        raise LookupError("of a secret")

    consuming = ConsumingService()
    with exporting():
        await store.write()
        async with running(relay_of(store).run, consuming.consumer(store, handle=fail).run):
            await eventually(lambda: bool(consuming.letters))
    (handled,) = [span for span in collector.spans if span.kind == "CONSUMER"]
    assert handled.failed
    assert handled.attributes["error.type"] == "LookupError"
