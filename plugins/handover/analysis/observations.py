"""Everything that one watch has seen, in sliding windows and in total. Pure: no I/O, and the caller tells the time.

Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from handover import clock
from handover.analysis import metrics
from handover.analysis.besides import Besides
from handover.analysis.latency import Histogram, cumulated, histogram
from handover.analysis.metrics import Counters
from handover.analysis.tracks import BAD, GOOD, ComparisonTrack, ShareTrack, Track, ValueTrack, tracks_of
from handover.analysis.window import Share, Sums, Window
from handover.models import names
from handover.models.evidence import Measurement
from handover.models.measures import Phase, Silence
from handover.models.names import POD_CONNECTIONS
from handover.models.names import PODS as PODS
from handover.models.names import PROBE as PROBE
from handover.plan.measures import GIVEN, Measure, in_unit, measures_of, others_of
from handover.plan.model import Plan


@dataclass(frozen=True)
class Probed:
    """One request of ours through the public Service. ``problem``: why the answer is bad, "" for a good one.
    ``silence``: why it says nothing about the release at all (`handover.models.answers`).
    """

    seconds: float
    problem: str = ""
    silence: str = ""


@dataclass(frozen=True)
class PodLimits:
    """What one pod may use: cores and bytes; 0 for no limit."""

    cores: float
    memory_bytes: float


FindingKey = tuple[str, str, str]
"""Of a `handover.analysis.judge.Finding`: rule, source and measure."""


@dataclass
class JudgedMeasure:
    """One measure and what is remembered of it. ``heard``: when its source could last tell it."""

    measure: Measure
    tracks: tuple[Track, ...]
    heard: float
    lacking: str = ""
    """Why its source cannot tell it."""
    newest: float = -math.inf
    """When its last value was so, in seconds since the epoch: a monitor has no other one until its next period."""


@dataclass
class Observations:
    """What was seen from the start of the watch until now."""

    plan: Plan
    started: float
    baseline: dict[str, float] = field(default_factory=dict)
    """What is normal, by measurement name. p50 and p95 must be of the same kind: from pods, not from clients."""
    sources: tuple[str, ...] = ()
    """Further sources that have to give data, beside pods and probe."""
    phase: Phase | None = None
    """Where the deployment is; None: nobody says, and every measure counts."""
    noted: set[FindingKey] = field(default_factory=set)
    """What people were told of and nothing was done about: no obstacle to a pass."""
    muted: set[FindingKey] = field(default_factory=set)
    """What of that goes on still: it is no breach again until it has been good."""
    stable: Histogram | None = None
    """How long the stable version's answers took, where that is known."""
    began: float = field(default_factory=clock.epoch)
    """When the watch did, in seconds since the epoch: what was so before is not the release's."""

    def __post_init__(self) -> None:
        watch, alert = self.plan.watch, self.plan.thresholds.alert_degradation
        measures = measures_of(self.plan)
        self.watched = tuple(JudgedMeasure(one, tracks_of(one, watch, alert), self.started) for one in measures)
        self._by_key = {one.measure.key: one for one in self.watched}
        self._probe_shares = self._shares(PROBE)
        self._pod_shares = self._shares(PODS)
        self.comparisons = [(one, t) for one in self.watched for t in one.tracks if isinstance(t, ComparisonTrack)]
        self.probes: Window[Probed] = Window(watch.window_seconds)
        self.pods: Sums[str] = Sums(watch.window_seconds)
        self.times: Sums[tuple[float, float]] = Sums(watch.window_seconds)
        self.last: dict[str, Measurement] = {}
        self.highest: dict[str, float] = {}
        self.waiting: dict[int, float] = {}
        """Probes without an answer yet, and when each was sent."""
        self.probed, self.served = Share(0, 0), Share(0, 0)
        self.problem = ""
        """The last bad answer of a probe."""
        self.silence: dict[str, str] = {}
        """Why a source gave no data the last time."""
        self.refused = False
        """Whether the last probe was answered by something that is not the release."""
        self.clients_seen = -math.inf
        """When pods last told of a request that was answered."""
        known = (PODS, PROBE, *self.sources, *others_of(measures))
        self.heard: dict[str, float] = dict.fromkeys(known, self.started)
        self._whole_times: dict[tuple[float, float], float] = {}
        self._pods: dict[str, Counters] = {}
        self._heard_pods: dict[str, float] = {}
        self._before: dict[str, Counters] = {}
        self._restarts: dict[str, tuple[int, int]] | None = None
        self._besides: defaultdict[str, Besides] = defaultdict(Besides)
        self._lacking: set[str] = set()
        """Pods that cannot tell everything."""

    # --- what comes in

    def probe(self, now: float, probed: Probed) -> None:
        self.refused = bool(probed.silence)
        if probed.silence:
            self.silence[PROBE] = probed.silence
            return
        self.probes.add(now, probed)
        self.heard[PROBE] = now
        self.probed += Share(bool(probed.problem), 1)
        self.problem = probed.problem or self.problem
        if not probed.problem:
            for name in self._pods:
                self._besides[name].sent(1 / len(self._pods))
        for watched, track in self._probe_shares:
            watched.heard = now
            bad = probed.problem if watched.measure.quantile is None else probed.seconds > track.seconds
            track.add(now, bool(bad), 1)
            track.last = self.problem

    def pod(self, name: str, counters: Counters, others: float = 0.0) -> None:
        """One look at one pod. The first one is where counting begins.

        :param others: the kubelet's requests a second to it, in case its counters do not tell them apart
        """
        now, old = counters.at, self._pods.get(name)
        self._pods[name] = counters
        self._heard_pods[name] = now
        (self._lacking.add if counters.lacking else self._lacking.discard)(name)
        self._hear_pods()
        self._hear_measures_of_pods(now)
        if old is None:
            return
        delta, lacking = metrics.since(counters, old), {**old.lacking, **counters.lacking}
        if not 0 <= delta.errors <= delta.requests < math.inf:
            self.silence[PODS] = f"{name} counts {delta.errors:g} errors of {delta.requests:g} answers"
            return
        times = histogram(delta.buckets)
        besides = 0.0
        if counters.mixed:
            self._besides[name].sent(others * (now - old.at))
            besides = self._besides[name].take(delta.requests - delta.errors)
        if delta.requests > besides:
            self.clients_seen = now
        if names.ERROR_RATE not in lacking:
            self.pods.add(now, {BAD: delta.errors, GOOD: delta.requests - delta.errors})
            self.served += Share(delta.errors, delta.requests)
        self.times.add(now, times)
        for interval, count in times.items():
            self._whole_times[interval] = self._whole_times.get(interval, 0.0) + count
        for watched, track in self._pod_shares:
            if lacks(watched.measure, lacking):
                continue
            if watched.measure.quantile is not None:
                track.add_times(now, times)
            elif watched.measure.name == names.CACHE_HIT_RATE:
                track.add(now, delta.misses, delta.hits + delta.misses)
            else:
                track.add(now, delta.errors, delta.requests - besides, besides)
        for watched, comparison in self.comparisons:
            if not lacks(watched.measure, lacking):
                comparison.add_times(now, times)

    def ready(self, now: float, pods: Iterable[str]) -> None:
        """The pods that are ready now; each of them has to give data. Others are forgotten."""
        present = set(pods)
        self._pods = {name: counters for name, counters in self._pods.items() if name in present}
        if present:
            self._heard_pods = {name: self._heard_pods.get(name, now) for name in present}
            self._hear_pods()

    def restarts(self, now: float, counts: Mapping[str, int]) -> None:
        """How often the containers of each pod were started again in its life. What was before the watch is normal; a
        pod that comes later is the release's own from its first start on.
        """
        known = self._restarts
        if known is None:
            self._restarts = {pod: (count, count) for pod, count in counts.items()}
        else:
            for pod, count in counts.items():
                before, most = known.get(pod, (0, 0))
                known[pod] = before, max(most, count)
        grown = sum(most - before for before, most in (self._restarts or {}).values())
        if counts or known:
            self.point(now, names.RESTARTS, grown, "", PODS)

    def measured(self, now: float, source: str, measurements: Iterable[Measurement]) -> None:
        """What another source said. A source that leaves a value out has given no data."""
        found = list(measurements)
        whats = [m.what for m in found]
        problems = [] if found else ["no value"]
        for m in found:
            problem = "two values" if whats.count(m.what) > 1 else self._take(now, source, m)
            watched = self._by_key.get((source, m.what))
            if watched:
                watched.lacking = problem
                if not problem:
                    watched.heard = now
                    if watched.newest < self.began:
                        watched.lacking = f"its newest value is {self.began - m.at:.0f} s older than the watch"
            if problem and not (watched and watched.measure.silence is Silence.IGNORE):
                problems.append(problem if m.value is None else f"{m.what}: {problem}")
        if problems:
            self.silence[source] = problems[0]
        else:
            self.heard[source] = now

    def excuse(self, seconds: float) -> None:
        """This process itself was held up for so long: what it did not hear then is not held against the sources.

        A gap as long as ``no_data_seconds`` is one, whoever made it.
        """
        if seconds < self.plan.watch.no_data_seconds:
            self.heard = {source: at + seconds for source, at in self.heard.items()}
            for watched in self.watched:
                watched.heard += seconds

    def point(self, now: float, what: str, value: float, unit: str, source: str, of: str | None = None) -> None:
        """One value of a measure. ``source``: in its own words; ``of``: its name, where others have the same one."""
        for watched in self.watched:
            measure = watched.measure
            if measure.name == what and (of or measure.source) == measure.source:
                watched.heard = now
                for track in watched.tracks:
                    if isinstance(track, ValueTrack):
                        track.add(now, value, self.baseline.get(what), source)
        key = what if of is None or of in GIVEN else f"{of}.{what}"
        self.last[key] = Measurement(what=what, value=value, unit=unit, source=source)
        self.highest[key] = max(value, self.highest.get(key, value))

    def resources(self, now: float, limits: PodLimits) -> None:
        """Makes points of what pods used since the last call: the busiest pod's CPU and memory, all pods' I/O. Looks at
        what has to last, and compares response times with the stable version's.
        """
        looks = [(new, self._before.get(name)) for name, new in self._pods.items()]
        pairs = [(new, old) for new, old in looks if old]
        self._before = dict(self._pods)
        memory = [new.memory_bytes for new in self._pods.values() if new.memory_bytes is not None]
        cpu = [used for new, old in pairs if (used := metrics.rate(new, old, "cpu_seconds")) is not None]
        connections = [new.connections for new in self._pods.values() if new.connections is not None]
        points = {
            names.MEMORY: (metrics.share(memory, limits.memory_bytes), ""),
            names.CPU: (metrics.share(cpu, limits.cores), ""),
            POD_CONNECTIONS: (sum(connections) if connections else None, ""),
            names.DISK_IO: (metrics.summed(pairs, "disk_bytes"), "B/s"),
            names.NETWORK_IO: (metrics.summed(pairs, "network_bytes"), "B/s"),
        }
        if (PODS, names.THROUGHPUT) in self._by_key and now > self.started:
            points[names.THROUGHPUT] = self.pods.total(now) / min(self.pods.seconds, now - self.started), "1/s"
        if self.times.total(now) >= self.plan.watch.min_requests:
            points |= {name: (value, "s") for name, value in metrics.latencies(cumulated(self.times.of(now))).items()}
        for what, (value, unit) in points.items():
            if value is not None:
                self.point(now, what, value, unit, PODS, PODS)
        for _, share in self._pod_shares:
            share.look(now)
        for watched, comparison in self.comparisons:
            comparison.look(now, self.stable, self.baseline.get(watched.measure.name))

    def _take(self, now: float, source: str, m: Measurement) -> str:
        """Makes a point of a measurement, once; gives why that cannot be done."""
        if m.value is None:
            return m.why or "no value"
        if not math.isfinite(m.value):
            return f"{m.value} is no value"
        value, unit = m.value, m.unit
        if watched := self._by_key.get((source, m.what)):
            unit = watched.measure.unit
            found = in_unit(m.value, m.unit, unit)
            if found is None:
                return f"it is in {m.unit!r}, the plan has it in {unit!r}"
            value = found
            if m.at < self.began or m.at <= watched.newest:
                return ""
            watched.newest = m.at
        self.point(now, m.what, value, unit, m.source, source)
        return ""

    def _hear_pods(self) -> None:
        """As a source, the pods are as silent as the most silent one of them."""
        self.heard[PODS] = max(self.heard[PODS], min(self._heard_pods.values()))

    def _hear_measures_of_pods(self, now: float) -> None:
        """A measure is told by the pods when each of them tells it."""
        lacking: dict[str, str] = {}
        for name in self._lacking & self._pods.keys():
            lacking |= {what: f"{name}: {why}" for what, why in self._pods[name].lacking.items()}
        for watched, _ in self._pod_shares:
            watched.lacking = lacks(watched.measure, lacking)
            if not watched.lacking:
                watched.heard = now

    def _shares(self, source: str) -> list[tuple[JudgedMeasure, ShareTrack]]:
        mine = (one for one in self.watched if one.measure.source == source)
        return [(one, track) for one in mine for track in one.tracks if isinstance(track, ShareTrack)]

    # --- what it says

    def overdue(self, now: float) -> bool:
        """A probe that has waited longer than a limit is slow already. Gives whether there are any."""
        for watched, track in self._probe_shares:
            if watched.measure.quantile is not None:
                track.waiting = sum(1 for sent in self.waiting.values() if now - sent > track.seconds)
        return any(track.waiting for _, track in self._probe_shares)

    def recent_probes(self, now: float) -> Share:
        """Bad answers among the probes of the window."""
        probes = list(self.probes.since(now))
        return Share(sum(1 for p in probes if p.problem), len(probes))

    def recent_pods(self, now: float) -> Share:
        """5xx answers among all that pods gave in the window."""
        return Share(self.pods.of(now).get(BAD, 0.0), self.pods.total(now))

    def sample(self, now: float) -> list[Measurement]:
        """What the window shows at this moment, for a plot. Only what there is: no value stands for no data."""
        pods, probes = self.recent_pods(now), self.recent_probes(now)
        found = [
            Measurement(what=names.ERROR_RATE, value=share.rate, source=source)
            for source, share in ((PODS, pods), (PROBE, probes))
            if share.total
        ]
        latencies = metrics.latencies(cumulated(self.times.of(now)))
        found += [Measurement(what=what, value=value, unit="s", source=PODS) for what, value in latencies.items()]
        times = sorted(probed.seconds for probed in self.probes.since(now))
        if times:
            slowest = times[min(len(times) - 1, int(0.99 * len(times)))]
            found.append(Measurement(what=names.P50, value=times[len(times) // 2], unit="s", source=PROBE))
            found.append(Measurement(what=names.P99, value=slowest, unit="s", source=PROBE))
        if pods.total:
            rate = pods.total / max(1e-9, min(self.pods.seconds, now - self.started))
            found.append(Measurement(what=names.THROUGHPUT, value=rate, unit="1/s", source=PODS))
        shown = {(one.what, one.source) for one in found}
        return found + [one for one in self._values(now) if (one.what, one.source) not in shown]

    def _values(self, now: float) -> Iterator[Measurement]:
        """The last value of everything that the plan measures, from the source that the plan names."""
        for name, source in ((one.measure.name, one.measure.source) for one in self.watched):
            found = self.last.get(name if source in GIVEN else f"{source}.{name}")
            if found is not None:
                yield found.model_copy(update={"source": source})
        cache = self._by_key.get((PODS, names.CACHE_HIT_RATE))
        if cache and (rate := cache.tracks[0].shown(now)[0]) is not None:
            yield Measurement(what=names.CACHE_HIT_RATE, value=rate, source=PODS)

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
        latencies = metrics.latencies(cumulated(self._whole_times))
        found += [Measurement(what=k, value=round(v, 4), unit="s", source=PODS) for k, v in latencies.items()]
        cache = self._by_key.get((PODS, names.CACHE_HIT_RATE))
        if cache and (rate := cache.tracks[0].shown(now)[0]) is not None:
            found.append(Measurement(what=names.CACHE_HIT_RATE, value=round(rate, 4), source=PODS))
        for what, m in self.last.items():
            if what not in latencies:
                found.append(m.model_copy(update={"source": f"{m.source} (highest: {self.highest[what]:.4g})"}))
        return found


def lacks(measure: Measure, lacking: Mapping[str, str]) -> str:
    """Why this measure cannot be told: pods that cannot tell a percentile can tell no other one either."""
    if not lacking:
        return ""
    return lacking.get(measure.name) or (lacking.get(names.P99, "") if measure.quantile is not None else "")
