"""Prometheus metrics. Each service has a registry of its own, so that several services can share a process."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BOUNDS = [*map(str, SECONDS), "+Inf"]


class Seconds(Collector):
    """A histogram for observations that every request makes, from the event loop's thread only.

    prometheus-client's own histogram takes three locks per observation, which is ten times as slow.
    """

    def __init__(self, name: str, documentation: str, *labels: str, registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def observe(self, seconds: float, *labels: str) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * len(_BOUNDS)
            self._sums[labels] = 0.0
        counts[bisect_left(SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, counts in self._counts.items():
            family.add_metric(labels, list(zip(_BOUNDS, accumulate(counts), strict=True)), self._sums[labels])
        yield family


class RequestMetrics(Collector):
    """Count and time requests by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter[tuple[str, str, int]]()
        self._seconds = Seconds(
            "http_request_duration_seconds",
            "Seconds from a request's head to the end of its response, or to the head of a stream of events",
            "method",
            "route",
            registry=registry,
        )
        registry.register(self)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests[method, route, status] += 1
        self._seconds.observe(seconds, method, route)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("http_requests_total", "Requests answered", labels=["method", "route", "status"])
        for (method, route, status), count in self._requests.items():
            family.add_metric([method, route, str(status)], count)
        yield family


def create_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
