"""The watch of a deployment, from before the first patch until it has ended: Argo's background analysis.

It sees a breach and moves traffic back at once, without waiting for a worker or for the scheduler: from a bad answer to
Airflow's next line of our code takes more than a second; from here it is one change of the route. Several may watch the
same deployment: every move is fenced and compared, and an incident is noted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.analysis import judge
from handover.coordination import heartbeat
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.coordination.promotion import Refused
from handover.coordination.routing import NotReady
from handover.coordination.state import NoDeployment
from handover.models.evidence import Evidence, Measurement, Verdict, failed, passed
from handover.models.heartbeat import Heartbeat
from handover.models.measures import Response
from handover.ports.kube import KubeError
from handover.traffic.abort import let_go
from handover.workflows.watch import incidents
from handover.workflows.watch.analysis_run import AnalysisRun
from handover.workflows.watch.follower import LOOK_SECONDS, TrafficFollower
from handover.workflows.watch.response import Standing, at_the_end, response

if TYPE_CHECKING:
    from handover.analysis.judge import Finding
    from handover.analysis.observer import Observer
    from handover.models.deployment import DeploymentState

AIRFLOW = "airflow"
BEAT_SECONDS = 1.0
CANCEL_SECONDS, CANCEL_LOOK_SECONDS = 5.0, 0.1
DRAIN_SECONDS = 1.0
"""The event waits no longer for pods that do not drain; the rollback drains them again."""


@dataclass
class BackgroundAnalysis(AnalysisRun):
    """Passes when the deployment has ended well; fails when traffic went back, by itself or by somebody else.

    :param watcher: who watches, for the sign of life
    """

    watcher: str = AIRFLOW

    def __post_init__(self) -> None:
        super().__post_init__()
        subject = self.subject
        self._follower = TrafficFollower(
            subject.kube,
            subject.router,
            subject.plan,
            subject.token,
            subject.state,
            self._entered,
            self.log,
        )
        self._standing = Standing.ARMED
        self._observer: Observer | None = None
        self._armed = False
        self._clean_since: float | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def conclude(self) -> Evidence:
        with contextlib.suppress(KubeError):  # then it is taken for armed until the next look
            await self._follower.look()
            self._standing, _ = self._follower.standing()
        beside = (asyncio.create_task(self._follower.follow()), asyncio.create_task(self._beat()))
        try:
            while (ended := await self._stretch()) is None:
                pass
            return ended
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, *self._telling, return_exceptions=True)

    async def _stretch(self) -> Evidence | None:
        """Observes in one piece: until a rule breaks, or the version stands somewhere else. Gives the end, if it is."""
        async with self.observing() as observer:
            self._observer = observer
            self._entered(self._follower.state)
            self._clean_since = clock.epoch() if self._standing is Standing.EXPOSED else None
            elsewhere = asyncio.create_task(self._follower.other_than(self._standing))
            observing = asyncio.create_task(self._until_breach(observer))
            try:
                await asyncio.wait([observing, elsewhere], return_when=asyncio.FIRST_COMPLETED)
                if observing.done():
                    self._clean_since = None
                    return await self._respond(*observing.result(), observer)
                self._standing, reason = await elsewhere
            finally:
                for task in (observing, elsewhere):
                    task.cancel()
                await asyncio.gather(observing, elsewhere, return_exceptions=True)
            measured = observer.seen.summary(clock.monotonic())
        if self._standing in (Standing.ENDED, Standing.LOST):
            conclude = passed if self._standing is Standing.ENDED else failed
            return conclude(self.check, reason, *measured)
        self.log.info("the version that is watched is %s", self._standing)
        return None

    def _entered(self, state: DeploymentState) -> None:
        """Which measures count is said by phase."""
        if self._observer is not None:
            self._observer.seen.phase = state.phase

    async def _until_breach(self, observer: Observer) -> tuple[Finding, Response]:
        """The first breach about which more is done than to tell people; what they were told of is not looked at again
        until it has been good.
        """
        while True:
            if (finding := await observer.watch(math.inf)) is None:
                continue
            what = response(self._follower.state, finding.severity, self.subject.plan.watch)
            if what is not Response.WAIT:
                self.log.warning("%s: %s", what, finding)
            if what is not Response.NOTE:
                return finding, what
            judge.note(observer.seen, finding)
            self._telling.add(asyncio.create_task(self._note(finding, observer)))  # nobody is blind for a slow channel

    async def _note(self, finding: Finding, observer: Observer) -> None:
        if not await self._tell(finding):
            observer.seen.muted.discard(finding.key)

    async def _respond(self, finding: Finding, what: Response, observer: Observer) -> Evidence | None:
        """To a breach; gives the evidence when that was the end of the watch."""
        subject, plan, token = self.subject, self.subject.plan, self.subject.token
        if what is Response.CANCEL_MIGRATION:
            await self._cancel_migration(str(finding))
        if what in (Response.ABORT, Response.CANCEL_MIGRATION):
            measured = observer.seen.summary(clock.monotonic())
            met = self._standing is Standing.EXPOSED
            where, *took = await self._move_back(str(finding))
            await incidents.rolled_back(subject.kube, plan, token, finding, where, met=met)
            return failed(self.check, f"{finding}; {where}", *measured, *took)
        if what is Response.ASK:
            await self._tell(finding)
        await asyncio.sleep(LOOK_SECONDS)
        return None

    async def _tell(self, finding: Finding) -> bool:
        """Whether it is known to be told; else what is broken still is found again."""
        try:
            await incidents.note(self.subject.kube, self.subject.plan, self.subject.token, finding)
            await self._follower.look()
        except (KubeError, FencedOut, NoDeployment) as error:
            self.log.warning("the incident was not noted yet: %s", error)
            return False
        return True

    async def _cancel_migration(self, reason: str) -> None:
        """Asks the step that migrates to stop, and waits until it has; not for ever, since clients meet the breach."""
        subject, deadline = self.subject, clock.monotonic() + CANCEL_SECONDS
        while clock.monotonic() < deadline:
            try:
                state = await states.update(
                    subject.kube, subject.plan.lock_name, subject.token, partial(_migration_cancelled, reason=reason)
                )
            except (KubeError, FencedOut, NoDeployment) as error:
                self.log.warning("the migration was not cancelled: %s", error)
                return
            if not state.migration.running:
                return
            await asyncio.sleep(CANCEL_LOOK_SECONDS)
        self.log.warning("the migration was not cancelled within %g s: traffic goes back nevertheless", CANCEL_SECONDS)

    async def _move_back(self, reason: str) -> tuple[str, *tuple[Measurement, ...]]:
        """Says where traffic is now, with how long that took."""
        subject, begun = self.subject, clock.monotonic()
        try:
            changed = await self._follower.abort(reason)
        except (FencedOut, Refused, NotReady, KubeError) as error:
            self.log.error("traffic was not moved back: %s", error)
            return (f"traffic was not moved back: {error}",)
        seconds, stable = clock.monotonic() - begun, subject.token.stable
        self.log.warning("traffic is back on %s after %.3f s%s", stable, seconds, "" if changed else " already")
        with contextlib.suppress(KubeError):
            await let_go(subject.kube, subject.plan, subject.token, subject.public.token, DRAIN_SECONDS)
        took = Measurement(what="traffic_back_seconds", value=round(seconds, 4), unit="s", source="watch")
        return f"traffic is back on {stable}", took

    # --- signs of life

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._observer is None:
                continue
            with contextlib.suppress(KubeError, FencedOut):  # the follower finds out what has become of it
                await heartbeat.beat(
                    self.subject.kube, self.subject.plan.lock_name, self.subject.token, self._sign(self._observer)
                )

    def _sign(self, observer: Observer) -> Heartbeat:
        seen, now = observer.seen, clock.monotonic()
        unheard = [f"{source} ({seen.silence.get(source) or 'no answer yet'})" for source in judge.unheard(seen)]
        self._armed = self._armed or not unheard
        rules = self.subject.plan.watch
        verdict, against = at_the_end(*judge.conclude(seen, now), self._follower.state, rules)
        told = (judge.told(seen, now),) if verdict is Verdict.PASS else ()
        reason = "; ".join(text for text in (*told, against) if text)
        return Heartbeat(
            watcher=self.watcher, at=clock.epoch(), armed=self._armed, clean_since=self._clean_since,
            verdict=Verdict.UNKNOWN if unheard else verdict,
            reason=f"not heard of yet: {', '.join(unheard)}" if unheard else reason,
            measurements=tuple(seen.summary(now)),
        )  # fmt: skip


def _migration_cancelled(state: DeploymentState, reason: str) -> DeploymentState:
    told = state.migration.cancelled or reason
    return state.model_copy(update={"migration": state.migration.model_copy(update={"cancelled": told})})
