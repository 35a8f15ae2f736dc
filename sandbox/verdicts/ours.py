"""The product's own observations and judge, fed with a simulated release at the pace of the plan."""

from __future__ import annotations

import math
from collections import Counter as Counted
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from handover.analysis import judge
from handover.analysis.latency import histogram
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, PodLimits, Probed
from handover.analysis.tracks import ShareTrack
from handover.models import names
from handover.models.evidence import Measurement, Verdict
from sandbox.verdicts.chance import binomial
from sandbox.verdicts.series import BOUNDS, PROBES_PER_SECOND, PodStep, Step
from sandbox.verdicts.verdict import Said

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from sandbox.verdicts.releases import Release

LIMITS = PodLimits(cores=1.0, memory_bytes=1.0)
SOURCES = (names.DATABASE, names.ERROR_TRACKER)
LOOK_SECONDS = 0.25
SPLIT_REQUESTS = 5000
"""Errors among more requests than these do not look like a burst, in whichever look they are."""
FEW_PROBES = 3
"""Of the good probes of a long step so many come one by one, the others at once."""


class Watch:
    """One watch of one release."""

    def __init__(self, one: Release, plan: Plan, stable: Sequence[Step], draw: Random) -> None:
        self._one, self._plan, self._draw = one, plan, draw
        normal = {names.CONNECTIONS: stable[-1].connections, names.POD_CONNECTIONS: stable[-1].connections}
        self.seen = Observations(plan, 0.0, normal, SOURCES, stable=_times(stable))
        self._counters = [Counters(0.0, 0, 0, dict.fromkeys(BOUNDS, 0.0), 0, 0, 0, 0.0, 0.0) for _ in range(one.pods)]
        self._names = [f"pod-{number}" for number in range(one.pods)]
        self.seen.ready(0.0, self._names)
        for name, counters in zip(self._names, self._counters, strict=True):
            self.seen.pod(name, counters)
        self.seen.restarts(0.0, dict.fromkeys(self._names, 0))
        self._valued = 0.0

    def verdict(self, steps: Sequence[Step]) -> Said:
        for step in steps:
            if found := self._step(step):
                return Said(found[0], str(found[1]))
        end = steps[-1].end
        verdict, finding = judge.conclude(self.seen, end)
        return Said(None) if verdict is Verdict.PASS else Said(end, f"at the end: {finding}")

    def _step(self, step: Step) -> tuple[float, judge.Finding] | None:
        if found := self._probes(step) or self._pods(step):
            return found
        if step.end - self._valued < 1.0 - 1e-6:
            return None
        self._valued = now = step.end
        self.seen.ready(now, self._names)
        self.seen.restarts(now, dict.fromkeys(self._names, 0) | {self._names[0]: step.restarts})
        self._ask(step, now)
        self.seen.resources(now, LIMITS)
        broken = judge.breach(self.seen, now)
        return (now, broken) if broken else None

    def _probes(self, step: Step) -> tuple[float, judge.Finding] | None:
        """All of them where one is bad; else a few."""
        number = max(1, round(step.seconds * PROBES_PER_SECOND))
        bad = list(step.bad_probes)
        if not bad and number > FEW_PROBES:
            for one in self.seen.watched:
                for track in one.tracks if one.measure.source == names.PROBE else ():
                    if isinstance(track, ShareTrack):
                        track.add(step.begin, 0, number - FEW_PROBES)
            number = FEW_PROBES
        good = [(step.begin + (i + 0.5) * step.seconds / number, 0.01, "") for i in range(max(0, number - len(bad)))]
        for at, seconds, problem in sorted(bad + good):
            now = at + min(seconds, self._plan.thresholds.max_p99_seconds)
            self.seen.probe(now, Probed(seconds, problem))
            if (problem or seconds > 0.1) and (found := judge.fast_breach(self.seen, now)):
                return now, found
        return None

    def _pods(self, step: Step) -> tuple[float, judge.Finding] | None:
        for at, looks in self._looks(step):
            for number, look in enumerate(looks):
                if look is None or "pods" in step.silent or (number == 0 and "one pod" in step.silent):
                    continue
                self._counters[number] = counters = self._grown(self._counters[number], look, step, at)
                self.seen.pod(self._names[number], counters)
                if found := judge.fast_breach(self.seen, at):
                    return at, found
        return None

    def _looks(self, step: Step) -> list[tuple[float, list[PodStep]]]:
        """One look at the end; as many as there are where errors could be a burst."""
        errors, requests = sum(p.errors for p in step.pods), sum(p.requests for p in step.pods)
        few = requests <= SPLIT_REQUESTS and errors > requests * self._plan.thresholds.max_error_rate / 2
        if step.seconds <= 1 or errors < 2 or not few:
            return [(step.end, step.pods)]
        number = math.ceil(step.seconds / LOOK_SECONDS)
        parts = [self._split(pod, number) for pod in step.pods]
        return [(step.begin + (i + 1) * step.seconds / number, [part[i] for part in parts]) for i in range(number)]

    def _split(self, pod: PodStep, number: int) -> list[PodStep]:
        found, left = [], PodStep(pod.requests, pod.errors, list(pod.times), pod.hits)
        for remaining in range(number, 0, -1):
            share = 1 / remaining
            errors = binomial(self._draw, left.errors, share)
            good = binomial(self._draw, left.requests - left.errors, share)
            times = [binomial(self._draw, count, share) for count in left.times]
            hits = min(good + errors, binomial(self._draw, left.hits, share))
            part = PodStep(good + errors, errors, times, hits)
            found.append(part)
            left = PodStep(
                left.requests - part.requests, left.errors - errors,
                [have - took for have, took in zip(left.times, times, strict=True)], left.hits - part.hits,
            )  # fmt: skip
        return found

    def _grown(self, old: Counters, look: PodStep, step: Step, at: float) -> Counters:
        total, buckets = 0, {}
        for bound, count in zip(BOUNDS, look.times, strict=True):
            total += count
            buckets[bound] = old.buckets[bound] + total
        return Counters(
            at, old.requests + look.requests, old.errors + look.errors, buckets,
            hits=(old.hits or 0) + look.hits, misses=(old.misses or 0) + look.requests - look.hits,
            connections=step.connections / self._one.pods,
            cpu_seconds=(old.cpu_seconds or 0) + step.cpu * (at - old.at), memory_bytes=step.memory,
        )  # fmt: skip

    def _ask(self, step: Step, now: float) -> None:
        if names.DATABASE not in step.silent:
            self.seen.measured(now, names.DATABASE, [
                Measurement(what=names.CONNECTIONS, value=step.connections, source=names.DATABASE, at=now),
                Measurement(what=names.REPLICATION_LAG, value=step.lag, unit="s", source=names.DATABASE, at=now),
            ])  # fmt: skip
        if names.ERROR_TRACKER not in step.silent:
            issues = Measurement(what=names.NEW_ERRORS, value=step.new_errors, source=names.ERROR_TRACKER, at=now)
            self.seen.measured(now, names.ERROR_TRACKER, [issues])


def _times(stable: Sequence[Step]) -> dict[tuple[float, float], float]:
    """How long the stable version's answers took, as its pods have counted them."""
    counted = [0.0] * len(BOUNDS)
    for step in stable:
        for pod in step.pods:
            counted = [have + more for have, more in zip(counted, pod.times, strict=True)]
    total: Counted[float] = Counted()
    running = 0.0
    for bound, count in zip(BOUNDS, counted, strict=True):
        running += count
        total[bound] = running  # type: ignore[assignment]
    return dict(histogram(total))
