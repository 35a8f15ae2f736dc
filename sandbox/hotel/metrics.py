"""What a pod tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Seconds; dense around the limits people set (0.2 s for half of the requests, 1 s for all but 1 %)."""


def disk_bytes() -> int:
    """Bytes this process has moved to and from disks; 0 where the kernel does not say."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split(": ") for line in lines)
    return int(counts["read_bytes"]) + int(counts["write_bytes"])


class _Disk(Collector):
    """Read when asked, not on every request."""

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily("disk_bytes", "Bytes read from and written to disks", value=disk_bytes())


class Metrics:
    """The metrics of one pod in a registry of their own, so that tests can run several pods in a process."""

    def __init__(self, connections: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests_total", "Answers, without probes, /metrics and /-/", ["code"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds", "Time to the head of an answer", buckets=BUCKETS, registry=registry
        )
        self.cache_hits = Counter("cache_hits_total", "Lists served from memory", registry=registry)
        self.cache_misses = Counter("cache_misses_total", "Lists read from the database", registry=registry)
        self._network = Counter("network_bytes_total", "Bytes of bodies received and sent", registry=registry)
        gauge = Gauge("database_connections", "Open connections to the database", registry=registry)
        gauge.set_function(connections)
        ProcessCollector(registry=registry)
        registry.register(_Disk())
        self._by_code: dict[int, Counter] = {}

    def answered(self, code: int, seconds: float) -> None:
        """Count one answer."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._requests.labels(str(code))
        counter.inc()
        self._seconds.observe(seconds)

    def moved(self, size: int) -> None:
        """Count bytes of a body."""
        self._network.inc(size)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
