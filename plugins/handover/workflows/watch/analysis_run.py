"""One analysis run: one colour observed for a while, with what is normal for it and the samples for the record."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.analysis import judge
from handover.analysis.observer import Observer
from handover.analysis.sources import learn
from handover.models import names
from handover.models.evidence import Evidence, Verdict, failed, passed
from handover.ports.kube import KubeError
from handover.workflows.watch.follower import LOOK_SECONDS
from handover.workflows.watch.samples import Samples

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.metrics import MetricSource
    from handover.ports.public import PublicAddress
    from handover.ports.router import Router

LEARN_SECONDS = 5.0
SEEN_BY_CLIENTS = frozenset({names.P50, names.P95, names.P99})
"""Times that clients have measured are no baseline for times that pods measure."""


@cache
def _settle_memory() -> None:
    """Once in a process: what is in memory by now stays for good, Airflow above all, and Python's collector need not
    look at it again. Each look would hold the event loop for a tenth of a second.
    """
    gc.collect()
    gc.freeze()


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


@dataclass
class AnalysisRun:
    """Observes what it is told to, again and again if need be; see `conclude` of those who derive from it.

    :param check: what the evidence is called, and the step of its samples in the record
    :param run: the run that watches, for the record
    :param records: whether it brings samples to the record; of several watches of one deployment one does
    """

    subject: AnalysisSubject
    check: str
    run: str = ""
    log: Any = field(default_factory=lambda: logging.getLogger(__name__))
    """Of the trigger, so that people see it in the task's log."""
    _: KW_ONLY
    records: bool = True

    def __post_init__(self) -> None:
        self._samples: list[Samples] = []

    async def conclude(self) -> Evidence:
        """Watches to the end, and gives the verdict."""
        raise NotImplementedError

    def samples_left(self) -> list[dict[str, object]]:
        """What the record has not got yet."""
        return [sample for samples in self._samples for sample in samples.left()]

    def observer(self, sources: Sequence[MetricSource]) -> Observer:
        """What sees the breach."""
        subject = self.subject
        baseline = {what: value for what, value in subject.state.baseline.items() if what not in SEEN_BY_CLIENTS}
        return Observer(
            subject.kube, subject.plan, subject.public, subject.colour, extra=sources, baseline=baseline,
            say=self.log.info,
        )  # fmt: skip

    @asynccontextmanager
    async def observing(self) -> AsyncIterator[Observer]:
        """An observer, and beside it what it needs."""
        _settle_memory()
        subject, sources = self.subject, list(self.subject.sources())
        observer = self.observer(sources)
        beside = [asyncio.create_task(_learn(subject, observer, sources))]
        if self.records and (record := subject.plan.record):
            samples = Samples(record, observer.seen, subject.token.deployment, self.run, self.check)
            self._samples = [*(kept for kept in self._samples if kept.left()), samples]
            beside.append(asyncio.create_task(samples.keep()))
        try:
            yield observer
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, *(source.close() for source in sources), return_exceptions=True)


@dataclass
class StableAnalysis(AnalysisRun):
    """Of the stable colour after a rollback, for ``seconds``. It moves nothing: a rollback is never rolled back."""

    seconds: float = 0.0

    async def conclude(self) -> Evidence:
        async with self.observing() as observer:
            observing = asyncio.create_task(observer.watch(self.seconds))
            moved = asyncio.create_task(self._until_moved())
            try:
                await asyncio.wait([observing, moved], return_when=asyncio.FIRST_COMPLETED)
                seen, now = observer.seen, clock.monotonic()
                if moved.done() and not observing.done():
                    return failed(self.check, moved.result(), *seen.summary(now))
                found = observing.result()
            finally:
                for task in (observing, moved):
                    task.cancel()
                await asyncio.gather(observing, moved, return_exceptions=True)
        verdict, finding = (Verdict.FAIL, found) if found else judge.conclude(seen, now)
        if finding is None:
            return passed(self.check, judge.told(seen, now), *seen.summary(now))
        return Evidence(check=self.check, verdict=verdict, reason=str(finding), measurements=tuple(seen.summary(now)))

    async def _until_moved(self) -> str:
        """Gives why there is nothing left to watch: somebody has moved traffic."""
        subject = self.subject
        while True:
            with contextlib.suppress(KubeError):
                route = await subject.router.read()
                if subject.colour not in route.serving or route.generation > subject.token.generation:
                    return f"traffic is not on {subject.colour} any more: {route}"
            await asyncio.sleep(LOOK_SECONDS)


async def _learn(subject: AnalysisSubject, observer: Observer, sources: Sequence[MetricSource]) -> None:
    """What is normal. For the new version: what the old one's pods have measured, which still run beside it. For the
    old version itself: the issues that it had before.
    """
    tracker = next((source for source in sources if source.name == "error_tracker"), None)
    while True:
        try:
            if subject.is_preview:
                await learn(observer.seen, subject.kube, subject.plan, subject.token.stable)
            else:
                measured = await tracker.measure() if tracker else []
                observer.seen.baseline.update({m.what: m.value for m in measured if m.value is not None})
            return
        except Exception as error:
            observer.say(f"no baseline yet: {error}")
            await asyncio.sleep(LEARN_SECONDS)
