"""Prometheus metrics of one service, in a registry of its own so that several services share a process."""

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class RequestMetrics:
    """Rate, errors and duration of requests, by route template.

    `labels()` of prometheus-client takes a lock and builds a key on each call: the children are kept here.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds from the request's head to the end of its answer, to the head of one that streams events",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._requests.labels(method, route, status), self._seconds.labels(method, route)
            self._bound[key] = bound
        bound[0].inc()
        bound[1].observe(seconds)


def create_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
