"""Where a watch gets its samples: each pod's own metrics, and requests of ours through the public Service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pms.analysis import metrics
from pms.analysis.metrics import Counters
from pms.analysis.observations import PODS, Limits, Probed, Seen
from pms.kube.client import connect
from pms.models import names

if TYPE_CHECKING:
    import aiohttp

    from pms.kube.client import Json, Kube
    from pms.models.evidence import Measurement
    from pms.plan.model import Plan

METRICS_PATH = "/metrics"
READ_SECONDS = 2.0
BASELINE_REQUESTS = 100
"""Fewer answers than this say nothing about what is normal."""


class PodMetrics:
    """Reads ``/metrics`` of the pods of one colour through the API server's pod proxy, which works from anywhere."""

    def __init__(self, kube: Kube, plan: Plan, colour: str) -> None:
        self._kube, self._port = kube, plan.cluster.port
        self._labels, self._cluster = plan.cluster.selector_of(colour), plan.cluster
        self.limits = Limits(metrics.cores(plan.cluster.cpu_limit), metrics.size(plan.cluster.memory_limit))

    async def pods(self) -> list[str]:
        """Names of the pods that are ready now. Raises `KubeError`."""
        ready = [pod for pod in await self._kube.list("pods", self._labels) if _is_ready(pod)]
        if ready:
            self.limits = self._limits_of(ready[0])
        return [pod["metadata"]["name"] for pod in ready]

    async def read(self, pod: str) -> Counters:
        """One look at one pod. Raises `KubeError` and `NoMetrics`."""
        text = await self._kube.proxy(pod, self._port, METRICS_PATH, timeout=READ_SECONDS)
        return metrics.parse(text, time.monotonic())

    def _limits_of(self, pod: Json) -> Limits:
        """What this pod may use, else what the plan says."""
        containers = pod["spec"]["containers"]
        mine = next((c for c in containers if c["name"] == self._cluster.container), containers[0])
        given = (mine.get("resources") or {}).get("limits") or {}
        return Limits(
            metrics.cores(str(given.get("cpu", self._cluster.cpu_limit))),
            metrics.size(str(given.get("memory", self._cluster.memory_limit))),
        )


class Probe:
    """One GET of the health path through the public Service on a new connection, so that any pod may answer."""

    def __init__(self, http: aiohttp.ClientSession, plan: Plan, url: str) -> None:
        self._http, self._url = http, f"{url}{plan.health.path}"

    async def ask(self) -> Probed:
        """Never raises for an answer that is bad, late or missing: that is what it is for."""
        import aiohttp

        begun = time.monotonic()
        try:
            async with self._http.get(self._url) as answer:
                await answer.read()
                problem = "" if answer.status == 200 else f"status {answer.status}"
        except TimeoutError:
            problem = "no answer in time"
        except (aiohttp.ClientError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Probed(time.monotonic() - begun, problem)


def probing(plan: Plan) -> aiohttp.ClientSession:
    """The client that probes go through: every request a new connection, no queue of our own."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=plan.watch.probe_timeout_seconds),
        headers={"User-Agent": "pms-deployer"},
    )


async def normal(kube: Kube, plan: Plan, colour: str) -> dict[str, float]:
    """What a colour's pods have measured in all their life: the fairest baseline for the same pods' successors.

    p50, p95 (only of enough requests) and connections, by measurement name; empty when the pods are gone.
    """
    source = PodMetrics(kube, plan, colour)
    counters = [await source.read(pod) for pod in await source.pods()]
    buckets = metrics.added(c.buckets for c in counters)
    enough = metrics.observed(buckets) >= BASELINE_REQUESTS
    found = metrics.latencies(buckets) if enough else {}
    connections = [c.connections for c in counters if c.connections is not None]
    if connections:
        found[f"pod_{names.CONNECTIONS}"] = sum(connections)
    return {what: value for what, value in found.items() if what != names.P99}


class PodUse:
    """What the pods of a colour use (disk, network), as a `pms.models.names.Source` for the baseline: two looks
    give rates.
    """

    name = PODS

    def __init__(self, plan: Plan, colour: str) -> None:
        self._plan, self._colour = plan, colour
        self._seen = Seen(plan, time.monotonic())

    async def measure(self) -> list[Measurement]:
        cluster = self._plan.cluster
        async with connect(cluster.connection, cluster.namespace) as kube:
            source = PodMetrics(kube, self._plan, self._colour)
            for pod in await source.pods():
                self._seen.pod(pod, await source.read(pod))
        self._seen.resources(time.monotonic(), source.limits)
        return [m for what, m in self._seen.last.items() if what in (names.DISK_IO, names.NETWORK_IO)]


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")
