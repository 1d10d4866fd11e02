from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.kit.metrics import SECONDS, RequestMetrics, Seconds

OBSERVED = (0.0, 0.001, 0.0011, 0.25, 5.0, 5.1, 100.0)


def _lines(registry: CollectorRegistry) -> set[str]:
    return {line for line in generate_latest(registry).decode().splitlines() if "_created" not in line}


def test_seconds_are_exported_as_the_librarys_histogram_exports_them() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    seconds = Seconds("waited_seconds", "Seconds waited", "place", registry=ours)
    histogram = Histogram("waited_seconds", "Seconds waited", ["place"], buckets=SECONDS, registry=theirs)
    for observed in OBSERVED:
        for place in ("here", "there"):
            seconds.observe(observed, place)
            histogram.labels(place).observe(observed)
    assert _lines(ours) == _lines(theirs)


def test_requests_are_counted_by_status_and_timed_by_route() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    for status in (200, 200, 503):
        metrics.observe("GET", "/api/things", status, 0.02)
    labels = {"method": "GET", "route": "/api/things"}
    assert registry.get_sample_value("http_requests_total", {**labels, "status": "200"}) == 2
    assert registry.get_sample_value("http_requests_total", {**labels, "status": "503"}) == 1
    assert registry.get_sample_value("http_request_duration_seconds_count", labels) == 3
