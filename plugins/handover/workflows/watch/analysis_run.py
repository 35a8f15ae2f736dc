"""One analysis run: sees a breach and moves traffic back at once, without waiting for a worker or for the scheduler.

From a bad answer to Airflow's next line of our code takes more than a second; from here it is one change of the route.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.analysis import judge
from handover.analysis.observer import Observer
from handover.analysis.sources import normal
from handover.coordination.lock import FencedOut
from handover.coordination.promotion import Refused
from handover.coordination.routing import NotReady
from handover.models import names
from handover.models.evidence import Evidence, Measurement, Verdict, failed, passed
from handover.models.incident import OnBreach, Severity, pending
from handover.ports.kube import KubeError
from handover.traffic.abort import Position, abort, let_go, look_for
from handover.workflows.watch import incidents
from handover.workflows.watch.samples import Samples

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.metrics import MetricSource
    from handover.ports.public import PublicAddress
    from handover.ports.router import Router

LOOK_SECONDS = 1.0
"""How old the remembered route and the number of ready stable pods may be."""
LEARN_SECONDS = 5.0
DRAIN_SECONDS = 1.0
"""The event waits no longer for pods that do not drain; the rollback drains them again."""
SEEN_BY_CLIENTS = frozenset({names.P50, names.P95, names.P99})
"""Times that clients have measured are no baseline for times that pods measure."""


@dataclass(frozen=True)
class AnalysisSubject:
    """Whom to watch, and where. ``sources``: makes the sources beside pods and probes, anew for each observation."""

    kube: Kube
    router: Router
    public: PublicAddress
    plan: Plan
    token: FencingToken
    state: DeploymentState
    colour: str
    sources: Callable[[], Sequence[MetricSource]]

    @property
    def is_preview(self) -> bool:
        return self.colour == self.token.preview


@dataclass(frozen=True)
class Observation:
    """What one observation came to. ``moved``: traffic is not there any more, by us or by somebody else."""

    evidence: Evidence
    finding: judge.Finding | None = None
    moved: bool = False


@dataclass
class AnalysisRun:
    """Watches one colour for ``seconds``, or as ``on_breach`` says (see `handover.workflows.watch.steps.Watch`).

    :param check: what the evidence is called, and the step of its samples in the record
    :param patience: of ``recover``: seconds until nothing may be broken any more
    :param run: the run that watches, for the record
    """

    subject: AnalysisSubject
    check: str
    seconds: float
    on_breach: OnBreach
    patience: float = 0.0
    run: str = ""
    log: Any = field(default_factory=lambda: logging.getLogger(__name__))
    """Of the trigger, so that people see it in the task's log."""

    def __post_init__(self) -> None:
        self._samples: list[Samples] = []

    async def conclude(self) -> Evidence:
        """Watches to the end, and gives the verdict."""
        ways = {"ask": self._ask, "guard": self._ask, "recover": self._recover}
        return await ways.get(self.on_breach, self._once)()

    def samples_left(self) -> list[dict[str, object]]:
        """What the record has not got yet."""
        return [sample for samples in self._samples for sample in samples.left()]

    async def _once(self) -> Evidence:
        return (await self._observe(self.seconds)).evidence

    async def _ask(self) -> Evidence:
        """Watches on after every incident that is not critical. With the first one that is it passes; a guard has moved
        traffic back by then, and fails.
        """
        plan, until, noted = self.subject.plan, clock.monotonic() + self.seconds, 0
        open_one = pending(self.subject.state.incidents) if self.on_breach == "ask" else None
        if open_one:  # noted by a triggerer that died
            return passed(self.check, f"critical incident: {open_one.reason}; {plan.incidents.role} is asked")
        while True:
            seen = await self._observe(max(0.0, until - clock.monotonic()))
            if seen.evidence.passed or seen.moved:
                return seen.evidence
            finding = seen.finding or judge.Finding(judge.NO_DATA, seen.evidence.reason)
            incident = await incidents.note(self.subject.kube, plan, self.subject.token, finding)
            self.log.warning("%s incident: %s", incident.severity, finding)
            noted += 1
            if incident.open:
                reason = f"critical incident: {finding}; {plan.incidents.role} is asked"
                return passed(self.check, reason, *seen.evidence.measurements)
            await asyncio.sleep(min(plan.watch.sustained_seconds, max(0.0, until - clock.monotonic())))
            if until - clock.monotonic() < plan.watch.window_seconds:
                return passed(self.check, f"{noted} incidents, none of them critical", *seen.evidence.measurements)

    async def _recover(self) -> Evidence:
        """Passes once nothing was broken for long enough; whatever is tried has to work before patience is over."""
        deadline = clock.monotonic() + self.patience
        while not (seen := await self._observe(self.seconds)).evidence.passed and not seen.moved:
            if clock.monotonic() > deadline:
                reason = f"nothing that was tried worked within {self.patience / 60:g} minutes: {seen.evidence.reason}"
                return failed(self.check, reason, *seen.evidence.measurements)
            self.log.info("not yet: %s", seen.evidence.reason)
            await asyncio.sleep(LOOK_SECONDS)
        return seen.evidence

    def observer(self, sources: Sequence[MetricSource]) -> Observer:
        """What sees the breach."""
        subject = self.subject
        baseline = {what: value for what, value in subject.state.baseline.items() if what not in SEEN_BY_CLIENTS}
        return Observer(
            subject.kube, subject.plan, subject.public, subject.colour, extra=sources, baseline=baseline,
            say=self.log.info,
        )  # fmt: skip

    async def _observe(self, seconds: float) -> Observation:
        """Runs the observer beside what it needs: where traffic is, what is normal, and the samples for the record."""
        subject, sources = self.subject, list(self.subject.sources())
        observer = self.observer(sources)
        follower = TrafficFollower(subject)
        samples = Samples(subject.plan.record, observer.seen, subject.token.deployment, self.run, self.check)
        self._samples.append(samples)
        observing = asyncio.create_task(observer.watch(seconds))
        moved = asyncio.create_task(follower.until_moved())
        beside = (asyncio.create_task(samples.keep()), asyncio.create_task(_learn(subject, observer, sources)))
        try:
            await asyncio.wait([observing, moved], return_when=asyncio.FIRST_COMPLETED)
            if moved.done() and not observing.done():
                measured = observer.seen.summary(clock.monotonic())
                return Observation(failed(self.check, moved.result(), *measured), moved=True)
            return await self._judged(observer, observing.result(), follower)
        finally:
            tasks = (observing, moved, *beside)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *(source.close() for source in sources), return_exceptions=True)

    async def _judged(self, observer: Observer, found: judge.Finding | None, follower: TrafficFollower) -> Observation:
        """The verdict on what was observed; traffic is moved back first where that is what it means."""
        now, seen = clock.monotonic(), observer.seen
        verdict, finding = (Verdict.FAIL, found) if found else judge.conclude(seen, now)
        measured = seen.summary(now)
        if verdict is Verdict.PASS or finding is None:
            return Observation(passed(self.check, judge.told(seen, now), *measured))
        reason, moves = str(finding), self._moves(finding)
        if moves:
            self.log.warning("%s: %s", verdict, finding)
            where, *took = await self._move_back(follower, reason)
            await incidents.rolled_back(self.subject.kube, self.subject.plan, self.subject.token, finding, where)
            reason, measured = f"{reason}; {where}", measured + took
        evidence = Evidence(check=self.check, verdict=verdict, reason=reason, measurements=tuple(measured))
        return Observation(evidence, finding, moved=moves)

    def _moves(self, finding: judge.Finding) -> bool:
        """Whether traffic goes back at once when this rule is broken."""
        critical = self.subject.plan.incidents.severity_of(finding.rule) is Severity.CRITICAL
        return self.on_breach == "move_back" or (self.on_breach == "guard" and critical)

    async def _move_back(self, follower: TrafficFollower, reason: str) -> tuple[str, *tuple[Measurement, ...]]:
        """Says where traffic is now, with how long that took."""
        subject, begun = self.subject, clock.monotonic()
        try:
            changed = await follower.abort(reason)
        except (FencedOut, Refused, NotReady, KubeError) as error:
            self.log.error("traffic was not moved back: %s", error)
            return (f"traffic was not moved back: {error}",)
        seconds, stable = clock.monotonic() - begun, subject.token.stable
        self.log.warning("traffic is back on %s after %.3f s%s", stable, seconds, "" if changed else " already")
        with contextlib.suppress(KubeError):
            await let_go(subject.kube, subject.plan, subject.token, subject.public.token, DRAIN_SECONDS)
        took = Measurement(what="traffic_back_seconds", value=round(seconds, 4), unit="s", source="watch")
        return f"traffic is back on {stable}", took


class TrafficFollower:
    """Knows where traffic is, looked at every second, so that moving it back is one request."""

    def __init__(self, subject: AnalysisSubject) -> None:
        self._subject = subject
        self._position: Position | None = None

    async def until_moved(self) -> str:
        """Gives why there is nothing left to watch: somebody else has moved traffic."""
        subject = self._subject
        while True:
            with contextlib.suppress(KubeError):
                self._position = await look_for(subject.kube, subject.router, subject.plan, subject.token)
                route = self._position.route
                if subject.colour not in route.serving or route.generation > subject.token.generation:
                    return f"traffic is not on {subject.colour} any more: {route}"
            await asyncio.sleep(LOOK_SECONDS)

    async def abort(self, reason: str) -> bool:
        """Gives whether that was needed; raises what `handover.traffic.abort.abort` raises."""
        subject = self._subject
        if self._position is None or not self._position.can_move:
            self._position = await look_for(subject.kube, subject.router, subject.plan, subject.token)
        _, changed = await abort(subject.router, subject.plan, self._position, reason, finalised_too=False)
        return changed


async def _learn(subject: AnalysisSubject, observer: Observer, sources: Sequence[MetricSource]) -> None:
    """What is normal. For the new version: what the old one's pods have measured, which still run beside it. For the
    old version itself: the issues that it had before.
    """
    tracker = next((source for source in sources if source.name == "error_tracker"), None)
    while True:
        try:
            if subject.is_preview:
                found = await normal(subject.kube, subject.plan, subject.token.stable)
            else:
                measured = await tracker.measure() if tracker else []
                found = {m.what: m.value for m in measured if m.value is not None}
            observer.seen.baseline.update(found)
            return
        except Exception as error:
            observer.say(f"no baseline yet: {error}")
            await asyncio.sleep(LEARN_SECONDS)
