"""Everything that one watch has seen, in sliding windows and in total. Pure: no I/O, and the caller tells the time.

Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from handover.analysis import metrics
from handover.analysis.metrics import Counters, Delta
from handover.analysis.window import Share, Window
from handover.models import names
from handover.models.evidence import Measurement
from handover.plan.model import Plan

PODS, PROBE = "pods", "probe"
POD_CONNECTIONS = f"pod_{names.CONNECTIONS}"
"""The pods' own connections together; `names.CONNECTIONS` is what the database counts, of all clients."""


@dataclass(frozen=True)
class Probed:
    """One request of ours through the public Service. ``problem``: why the answer is bad, "" for a good one."""

    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class PodLimits:
    """What one pod may use: cores and bytes."""

    cores: float
    memory_bytes: float


@dataclass
class Observations:
    """What was seen from the start of the watch until now."""

    plan: Plan
    started: float
    baseline: dict[str, float] = field(default_factory=dict)
    """What is normal, by measurement name. p50 and p95 must be of the same kind: from pods, not from clients."""
    sources: tuple[str, ...] = ()
    """Further sources that have to give data, beside pods and probe."""

    def __post_init__(self) -> None:
        watch = self.plan.watch
        self.probes: Window[Probed] = Window(watch.window_seconds)
        self.pods: Window[Delta] = Window(watch.window_seconds)
        self.lookups: Window[Share] = Window(watch.sustained_seconds)
        self.series: dict[str, Window[float]] = {}
        self.last: dict[str, Measurement] = {}
        self.highest: dict[str, float] = {}
        self.waiting: dict[int, float] = {}
        """Probes without an answer yet, and when each was sent."""
        self.probed, self.served = Share(0, 0), Share(0, 0)
        self.buckets: metrics.Buckets = {}
        self.problem = ""
        """The last bad answer of a probe."""
        self.silence: dict[str, str] = {}
        """Why a source gave no data the last time."""
        self.heard: dict[str, float] = dict.fromkeys((PODS, PROBE, *self.sources), self.started)
        self._pods: dict[str, Counters] = {}
        self._heard_pods: dict[str, float] = {}
        self._before: dict[str, Counters] = {}

    # --- what comes in

    def probe(self, now: float, probed: Probed) -> None:
        self.probes.add(now, probed)
        self.heard[PROBE] = now
        self.probed = Share(self.probed.bad + bool(probed.problem), self.probed.total + 1)
        self.problem = probed.problem or self.problem

    def pod(self, name: str, counters: Counters) -> None:
        """One look at one pod. The first one is where counting begins."""
        now, old = counters.at, self._pods.get(name)
        self._pods[name] = counters
        self._heard_pods[name] = now
        self._hear_pods()
        if old is None:
            return
        delta = metrics.since(counters, old)
        self.pods.add(now, delta)
        self.lookups.add(now, Share(delta.misses, delta.hits + delta.misses))
        self.served = Share(self.served.bad + delta.errors, self.served.total + delta.requests)
        self.buckets = metrics.added((self.buckets, delta.buckets))

    def ready(self, now: float, pods: Iterable[str]) -> None:
        """The pods that are ready now; each of them has to give data. Others are forgotten."""
        present = set(pods)
        self._pods = {name: counters for name, counters in self._pods.items() if name in present}
        if present:
            self._heard_pods = {name: self._heard_pods.get(name, now) for name in present}
            self._hear_pods()

    def measured(self, now: float, source: str, measurements: Iterable[Measurement]) -> None:
        """What another source said. A source that leaves a value out has given no data."""
        found = list(measurements)
        for m in found:
            if m.value is not None:
                self.point(now, m.what, m.value, m.unit, m.source)
        if found and all(m.value is not None for m in found):
            self.heard[source] = now
        else:
            self.silence[source] = "no value"

    def excuse(self, seconds: float) -> None:
        """This process itself was held up for so long: what it did not hear then is not held against the sources.

        A gap as long as ``no_data_seconds`` is one, whoever made it.
        """
        if seconds < self.plan.watch.no_data_seconds:
            self.heard = {source: at + seconds for source, at in self.heard.items()}

    def point(self, now: float, what: str, value: float, unit: str, source: str) -> None:
        """One value of a slow measure."""
        self.series.setdefault(what, Window(self.plan.watch.sustained_seconds)).add(now, value)
        self.last[what] = Measurement(what=what, value=value, unit=unit, source=source)
        self.highest[what] = max(value, self.highest.get(what, value))

    def resources(self, now: float, limits: PodLimits) -> None:
        """Makes points of what pods used since the last call: the busiest pod's CPU and memory, all pods' I/O."""
        looks = [(new, self._before.get(name)) for name, new in self._pods.items()]
        pairs = [(new, old) for new, old in looks if old]
        self._before = dict(self._pods)
        memory = [new.memory_bytes / limits.memory_bytes for new in self._pods.values() if new.memory_bytes is not None]
        cpu = [used / limits.cores for new, old in pairs if (used := metrics.rate(new, old, "cpu_seconds")) is not None]
        connections = [new.connections for new in self._pods.values() if new.connections is not None]
        points = {
            names.MEMORY: (max(memory, default=None), ""),
            names.CPU: (max(cpu, default=None), ""),
            POD_CONNECTIONS: (sum(connections) if connections else None, ""),
            names.DISK_IO: (_summed(pairs, "disk_bytes"), "B/s"),
            names.NETWORK_IO: (_summed(pairs, "network_bytes"), "B/s"),
        }
        window = metrics.added(delta.buckets for delta in self.pods.since(now))
        if metrics.observed(window) >= self.plan.watch.min_requests:
            points |= {name: (value, "s") for name, value in metrics.latencies(window).items()}
        for what, (value, unit) in points.items():
            if value is not None:
                self.point(now, what, value, unit, PODS)

    def _hear_pods(self) -> None:
        """As a source, the pods are as silent as the most silent one of them."""
        self.heard[PODS] = max(self.heard[PODS], min(self._heard_pods.values()))

    # --- what it says

    def recent_probes(self, now: float) -> Share:
        """Bad answers among the probes of the window."""
        probes = list(self.probes.since(now))
        return Share(sum(1 for p in probes if p.problem), len(probes))

    def slow_probes(self, now: float, limit: float) -> Share:
        """Slow answers of the window; a probe that has waited longer than the limit is slow already."""
        probes = list(self.probes.since(now))
        overdue = sum(1 for sent in self.waiting.values() if now - sent > limit)
        return Share(sum(1 for p in probes if p.seconds > limit) + overdue, len(probes) + overdue)

    def recent_pods(self, now: float) -> Share:
        """5xx answers among all that pods gave in the window."""
        deltas = list(self.pods.since(now))
        return Share(sum(d.errors for d in deltas), sum(d.requests for d in deltas))

    def slow_answers(self, now: float, limit: float) -> Share:
        """Answers of pods in the window that took longer than ``limit`` seconds."""
        window = metrics.added(delta.buckets for delta in self.pods.since(now))
        return Share(metrics.slower_than(window, limit), metrics.observed(window))

    def cache_misses(self, now: float) -> Share:
        shares = list(self.lookups.since(now))
        return Share(sum(s.bad for s in shares), sum(s.total for s in shares))

    def sample(self, now: float) -> list[Measurement]:
        """What the window shows at this moment, for a plot. Only what there is: no value stands for no data."""
        pods, probes = self.recent_pods(now), self.recent_probes(now)
        found = [
            Measurement(what=names.ERROR_RATE, value=share.rate, source=source)
            for source, share in ((PODS, pods), (PROBE, probes))
            if share.total
        ]
        latencies = metrics.latencies(metrics.added(delta.buckets for delta in self.pods.since(now)))
        found += [Measurement(what=what, value=value, unit="s", source=PODS) for what, value in latencies.items()]
        times = sorted(probed.seconds for probed in self.probes.since(now))
        if times:
            slowest = times[min(len(times) - 1, int(0.99 * len(times)))]
            found.append(Measurement(what=names.P50, value=times[len(times) // 2], unit="s", source=PROBE))
            found.append(Measurement(what=names.P99, value=slowest, unit="s", source=PROBE))
        if pods.total:
            rate = pods.total / max(1e-9, min(self.pods.seconds, now - self.started))
            found.append(Measurement(what=names.THROUGHPUT, value=rate, unit="1/s", source=PODS))
        slow = (names.REPLICATION_LAG, names.CONNECTIONS, names.CPU, names.MEMORY)
        return found + [self.last[what] for what in slow if what in self.last]

    def summary(self, now: float) -> list[Measurement]:
        """One measurement of each kind for the evidence: totals of the whole watch, else the last value."""
        seconds = max(now - self.started, 1e-9)
        found = [
            Measurement(what=names.ERROR_RATE, value=self.served.rate, source=PODS),
            Measurement(what=names.ERROR_RATE, value=self.probed.rate, source=PROBE),
            Measurement(what="requests", value=self.served.total, source=PODS),
            Measurement(what="requests", value=self.probed.total, source=PROBE),
            Measurement(what=names.THROUGHPUT, value=round(self.served.total / seconds, 2), unit="1/s", source=PODS),
        ]
        latencies = metrics.latencies(self.buckets)
        found += [Measurement(what=k, value=round(v, 4), unit="s", source=PODS) for k, v in latencies.items()]
        misses = self.cache_misses(now)
        if misses.total:
            found.append(Measurement(what=names.CACHE_HIT_RATE, value=round(1 - misses.rate, 4), source=PODS))
        for what, m in self.last.items():
            if what not in latencies:
                found.append(m.model_copy(update={"source": f"{m.source} (highest: {self.highest[what]:.4g})"}))
        return found


def _summed(pairs: list[tuple[Counters, Counters]], what: str) -> float | None:
    rates = [found for new, old in pairs if (found := metrics.rate(new, old, what)) is not None]
    return sum(rates) if rates else None
