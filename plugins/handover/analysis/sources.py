"""Where a watch gets its samples: each pod's own metrics, and requests of ours through the public Service."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from handover import clock
from handover.analysis import metrics
from handover.analysis.latency import cumulated, histogram
from handover.analysis.observations import PODS, Observations, PodLimits, Probed
from handover.analysis.statistics import Interval
from handover.models import answers, names
from handover.models.containers import find_container
from handover.models.quantity import quantity
from handover.outside import outside
from handover.ports.public import stored
from handover.telemetry.pods import PodReader

if TYPE_CHECKING:
    from handover.models.evidence import Measurement
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.public import PublicAddress

BASELINE_REQUESTS = 100
"""Fewer answers than this say nothing about what is normal."""


class PodMetrics(PodReader):
    """What the pods of one colour say of themselves, and what each of them may use."""

    def __init__(self, kube: Kube, plan: Plan, colour: str) -> None:
        super().__init__(kube, plan, colour)
        self.limits = PodLimits(quantity(plan.cluster.cpu_limit), quantity(plan.cluster.memory_limit))

    async def pods(self) -> list[str]:
        """Names of the pods that are ready now. Raises `KubeError`."""
        ready = await self.ready()
        if ready:
            self.limits = self._limits_of(ready[0])
        return [pod["metadata"]["name"] for pod in ready]

    def _limits_of(self, pod: Json) -> PodLimits:
        """What this pod may use, else what the plan says: 0 is no limit, as no entry is."""
        container = find_container(pod["spec"], self._cluster.container) or {}
        given = (container.get("resources") or {}).get("limits") or {}
        return PodLimits(
            quantity(str(given.get("cpu", 0))) or quantity(self._cluster.cpu_limit),
            quantity(str(given.get("memory", 0))) or quantity(self._cluster.memory_limit),
        )


class Probe:
    """One GET of the health path at the public address, so that any pod may answer.

    :param stable: the status that the stable version answers with, None: not known
    """

    def __init__(self, public: PublicAddress, plan: Plan, stable: int | None = None) -> None:
        self._public, self._path, self._timeout = public, plan.health.path, plan.watch.probe_timeout_seconds
        self._stable = stable

    async def ask(self) -> Probed:
        answer = await self._public.get(self._path, self._timeout)
        problem = answers.problem(answer.status, answer.problem, stable=self._stable)
        silence = answers.silence(answer.status, stable=self._stable) or stored(answer.stored_seconds)
        return Probed(answer.seconds, problem, "" if problem else silence)


async def learn(seen: Observations, kube: Kube, plan: Plan, colour: str) -> None:
    """Tells a watch what is normal: what a colour's pods have measured in all their life, the fairest baseline for
    their successors. How long answers took (of enough of them), with p50 and p95, and connections; nothing when they
    are gone.

    Raises `KubeError`, and `NoMetrics` when a pod cannot be read.
    """
    source = PodMetrics(kube, plan, colour)
    counters = [await source.read(pod) for pod in await source.pods()]
    times: Counter[Interval] = Counter()
    for one in counters:
        times.update(histogram(one.buckets))
    if times.total() >= BASELINE_REQUESTS:
        latencies = metrics.latencies(cumulated(times))
        seen.baseline |= {what: value for what, value in latencies.items() if what != names.P99}
        seen.stable = dict(times)
    connections = [c.connections for c in counters if c.connections is not None]
    if connections:
        seen.baseline[names.POD_CONNECTIONS] = sum(connections)


class PodUse:
    """What the pods of a colour use (disk, network), as a `MetricSource` for the baseline: two looks
    give rates.
    """

    name = PODS

    def __init__(self, plan: Plan, colour: str) -> None:
        self._plan, self._colour = plan, colour
        self._seen = Observations(plan, clock.monotonic())

    async def measure(self) -> list[Measurement]:
        cluster = self._plan.cluster
        async with outside().kube(cluster.connection, cluster.namespace) as kube:
            source = PodMetrics(kube, self._plan, self._colour)
            for pod in await source.pods():
                self._seen.pod(pod, await source.read(pod))
        self._seen.resources(clock.monotonic(), source.limits)
        return [m for what, m in self._seen.last.items() if what in (names.DISK_IO, names.NETWORK_IO)]

    async def close(self) -> None:
        """Nothing is held between two looks."""
