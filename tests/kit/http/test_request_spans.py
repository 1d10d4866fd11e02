"""The span of a request: what it says, and what it must not say."""

import httpx

from tests.kit.http.services import doctor
from tests.support.collector import Collector, Exporting
from tests.support.process import free_ports

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = f"00-{TRACE}-{PARENT}-01"


async def test_a_request_is_a_span_in_its_clients_trace(
    client: httpx.AsyncClient, exporting: Exporting, collector: Collector
) -> None:
    with exporting(OTEL_RESOURCE_ATTRIBUTES="service.namespace=clinic,deployment.environment.name=test"):
        answer = await client.get("/api/mine?secret=%2B49", headers={"traceparent": SENT, **doctor()})
        assert answer.status_code == 200
        await client.get("/api/nowhere/secret", headers={"traceparent": "00-junk"})
        await client.get("/api/health/live")
    one, two = collector.spans
    assert (one.service, one.kind, one.name, one.trace_id, one.parent_id) == (
        "notes", "SERVER", "GET /api/mine", TRACE, PARENT,
    )  # fmt: skip
    assert one.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/mine",
        "http.response.status_code": 200,
        "url.scheme": "http",
    }
    assert one.resource["service.namespace"] == "clinic"
    assert (two.name, two.parent_id, two.failed) == ("GET", "", False)
    assert two.trace_id not in (TRACE, "0" * 32)
    assert two.attributes == {"http.request.method": "GET", "http.response.status_code": 404, "url.scheme": "http"}


async def test_the_variables_name_the_service(
    client: httpx.AsyncClient, exporting: Exporting, collector: Collector
) -> None:
    with exporting(OTEL_SERVICE_NAME="our-notes"):
        await client.get("/api/notes")
    assert [span.service for span in collector.spans] == ["our-notes"]


async def test_an_error_is_recorded_without_its_message(
    client: httpx.AsyncClient, exporting: Exporting, collector: Collector
) -> None:
    with exporting():
        assert (await client.get("/api/broken")).status_code == 500
        assert (await client.get("/api/taken")).status_code == 409
    broken, taken = collector.spans
    assert broken.failed
    assert broken.attributes["error.type"] == "RuntimeError"
    (event,) = broken.events
    assert event.keys() == {"exception.type", "exception.stacktrace"}
    assert "notes.py" in event["exception.stacktrace"]
    assert not taken.failed


async def test_a_collector_that_is_away_fails_no_request(client: httpx.AsyncClient, exporting: Exporting) -> None:
    (port,) = free_ports(1)
    with exporting(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{port}/v1/traces",
        OTEL_BSP_MAX_QUEUE_SIZE="2",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1",
        OTEL_BSP_SCHEDULE_DELAY="1",
    ):
        for _ in range(50):
            assert (await client.get("/api/notes")).status_code == 200
