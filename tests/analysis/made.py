"""Observations of a watch as tests make them, by the repository's plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handover.analysis import judge
from handover.analysis.judge import Finding
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, PodLimits, Probed
from handover.models.evidence import Measurement
from handover.models.measures import MeasureResult
from handover.plan.load import load_plan
from handover.plan.measures import GIVEN, MeasureEntry
from handover.plan.model import INCLUDE, Plan

PLAN = load_plan(Path(INCLUDE) / "plans" / "pms.yaml")
WATCH = PLAN.watch
SUSTAINED = WATCH.sustained_seconds
ONE = PodLimits(cores=1, memory_bytes=100)


def seen(plan: Plan = PLAN, **changes: Any) -> Observations:
    return Observations(plan, started=0.0, **changes)


def counters(at: float, total: float, errors: float = 0, slow: float = 0, **more: float) -> Counters:
    """``slow`` of the answers took between 1 and 5 seconds, the others less than 0.1."""
    buckets = {0.1: total - slow, 0.2: total - slow, 1.0: total - slow, 5.0: total, float("inf"): total}
    return Counters(at, total, errors, buckets, **more)


def probes(subject: Observations, outcomes: list[bool], begin: float = 0.0, seconds: float = 0.01) -> float:
    """One probe every 0.1 s, True for a good answer; gives the time of the last one."""
    now = begin
    for good in outcomes:
        now += 0.1
        subject.probe(now, Probed(seconds, "" if good else "status 500"))
    return now


def healthy(subject: Observations, until: float, step: float = 0.5) -> float:
    """Everything good, all the time."""
    now, total = 0.0, 0.0
    while now < until:
        now, total = now + step, total + 50
        subject.ready(now, ["a"])
        subject.pod("a", counters(now, total, cpu_seconds=now * 0.1, memory_bytes=20, hits=total, misses=0))
        subject.probe(now, Probed(0.01))
        subject.resources(now, ONE)
        for source in subject.sources:
            subject.measured(now, source, [Measurement(what=what, value=0, source=source) for what in GIVEN[source]])
    return now


def series(subject: Observations, what: str, values: list[float], over: float = SUSTAINED) -> float:
    now = 0.0
    for i, value in enumerate(values):
        now = i * over / max(1, len(values) - 1)
        subject.point(now, what, value, "", "test")
    return now


def sustained(subject: Observations, now: float) -> Finding | None:
    """What is broken of the measures that want a whole window."""
    for source in subject.heard:
        subject.heard[source] = now
    return judge.breach(subject, now)


def plan_with(*entries: dict[str, Any]) -> Plan:
    """The plan with these measures in its list."""
    return PLAN.model_copy(update={"measures": tuple(MeasureEntry.model_validate(entry) for entry in entries)})


def result(subject: Observations, now: float, name: str, source: str = "pods") -> MeasureResult:
    """What one measure has come to."""
    return next(one for one in judge.results(subject, now) if (one.measure, one.source) == (name, source))
