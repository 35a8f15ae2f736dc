"""The watch itself: sees a breach and moves traffic back at once, without waiting for a worker or for the scheduler.

From a bad answer to Airflow's next line of our code takes more than a second; from here it is one patch.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from pms.analysis import judge
from pms.analysis.observer import Observer
from pms.analysis.sources import normal
from pms.checks.sources import ErrorTrackerSource
from pms.database.sources import DatabaseSource
from pms.flow import incidents
from pms.flow.samples import Samples
from pms.kube import state as states
from pms.kube.client import Kube, KubeError, connect
from pms.kube.lock import FencedOut
from pms.models import names
from pms.models.deployment import DeploymentState, Ticket
from pms.models.evidence import Evidence, Measurement, Verdict, failed, passed
from pms.models.incident import Severity, pending
from pms.plan.model import Plan
from pms.traffic import switch
from pms.traffic.api import Api, api
from pms.traffic.back import Facts, let_go, look_for, move_back
from pms.traffic.service import NotReady

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pms.models.names import Source

LOOK_SECONDS = 1.0
"""How old the remembered Service and the number of ready old pods may be."""
LEARN_SECONDS = 5.0
DRAIN_SECONDS = 1.0
"""The event waits no longer for pods that do not drain; the rollback drains them again."""
SEEN_BY_CLIENTS = frozenset({names.P50, names.P95, names.P99})
"""Times that clients have measured are no baseline for times that pods measure."""


class WatchTrigger(BaseTrigger):
    """Observes a colour; the event is an `Evidence`, and what the record has not got yet. Started again after a crash,
    it observes from zero.

    :param plan: the `Plan` as JSON; what is stored of a trigger holds no secret, only ids of connections
    :param ticket: the `Ticket` of the deployment or rollback as JSON
    :param on_breach: as in `pms.flow.watch.Watch`; or ``recover``: observe again and again until nothing was broken for
        ``seconds``, or ``patience`` seconds are over
    :param run: the run that watches, for the record
    """

    def __init__(
        self, *, plan: dict[str, Any], ticket: dict[str, Any], check: str, seconds: float, colour: str, on_breach: str,
        patience: float = 0.0, run: str = "",
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan, self.ticket, self.check = plan, ticket, check
        self.seconds, self.colour, self.on_breach = seconds, colour, on_breach
        self.patience, self.run_id = patience, run
        self._samples: list[Samples] = []

    def serialize(self) -> tuple[str, dict[str, Any]]:
        same = ("plan", "ticket", "check", "seconds", "colour", "on_breach", "patience")
        arguments = {name: getattr(self, name) for name in same} | {"run": self.run_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        plan, ticket = Plan.model_validate(self.plan), Ticket.model_validate(self.ticket)
        public = await api(plan.traffic.api_connection)
        async with connect(plan.cluster.connection, plan.cluster.namespace) as kube:
            state = await states.read(kube, plan.lock_name)
            if state is None or state.generation != ticket.generation:
                reason = f"generation {ticket.generation} is over: {state.deployment if state else 'nobody'} deploys"
                evidence = failed(self.check, f"{reason}; nothing was watched")
            else:
                self.log.info("watching %s for %g s", _colour(ticket, self.colour), self.seconds)
                ways = {"ask": self._ask, "guard": self._ask, "recover": self._recover}
                evidence = await ways.get(self.on_breach, self._once)(Scene(kube, plan, ticket, state, public))
        left = [sample for samples in self._samples for sample in samples.left()]
        event = {"evidence": evidence.model_dump(mode="json"), "samples": left}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _once(self, scene: Scene) -> Evidence:
        return (await self._watch(scene, self.seconds)).evidence

    async def _ask(self, scene: Scene) -> Evidence:
        """Watches on after every incident that is not critical. With the first one that is it passes; a guard has moved
        traffic back by then, and fails.
        """
        plan, until, noted = scene.plan, time.monotonic() + self.seconds, 0
        open_one = pending(scene.state.incidents) if self.on_breach == "ask" else None
        if open_one:  # noted by a triggerer that died
            return passed(self.check, f"critical incident: {open_one.reason}; {plan.incidents.role} is asked")
        while True:
            seen = await self._watch(scene, max(0.0, until - time.monotonic()))
            if seen.evidence.passed or seen.moved:
                break
            incident = await incidents.note(scene.kube, plan, scene.ticket, seen.rule, seen.evidence.reason)
            self.log.warning("%s incident: %s", incident.severity, seen.evidence.reason)
            noted += 1
            if incident.open:
                reason = f"critical incident: {incident.reason}; {plan.incidents.role} is asked"
                return passed(self.check, reason, *seen.evidence.measurements)
            await asyncio.sleep(min(plan.watch.sustained_seconds, max(0.0, until - time.monotonic())))
            if until - time.monotonic() < plan.watch.window_seconds:
                return passed(self.check, f"{noted} incidents, none of them critical", *seen.evidence.measurements)
        return seen.evidence

    async def _recover(self, scene: Scene) -> Evidence:
        """Passes once nothing was broken for long enough; whatever is tried has to work before patience is over."""
        deadline = time.monotonic() + self.patience
        while not (seen := await self._watch(scene, self.seconds)).evidence.passed and not seen.moved:
            if time.monotonic() > deadline:
                reason = f"nothing that was tried worked within {self.patience / 60:g} minutes: {seen.evidence.reason}"
                return failed(self.check, reason, *seen.evidence.measurements)
            self.log.info("not yet: %s", seen.evidence.reason)
            await asyncio.sleep(LOOK_SECONDS)
        return seen.evidence

    async def _watch(self, scene: Scene, seconds: float) -> Watched:
        kube, plan, ticket, state, public = scene.kube, scene.plan, scene.ticket, scene.state, scene.public
        colour = _colour(ticket, self.colour)
        baseline = {what: value for what, value in state.baseline.items() if what not in SEEN_BY_CLIENTS}
        database = DatabaseSource(plan.migration.primary_connection, plan.migration.replica_connections)
        version = state.version if self.colour == "new" else state.previous_version
        tracker = ErrorTrackerSource(plan, version)
        extra: list[Source] = [database, tracker]
        observer = Observer(kube, plan, public.url, colour, extra=extra, baseline=baseline, say=self.log.info)
        place = Place(kube, plan, ticket, colour)
        samples = Samples(plan.record, observer.seen, ticket.deployment, self.run_id, self.check)
        self._samples.append(samples)
        sampling = asyncio.create_task(samples.keep())
        observing = asyncio.create_task(observer.watch(seconds))
        learning = asyncio.create_task(_learn(kube, plan, ticket, observer, tracker, self.colour))
        moved = asyncio.create_task(place.until_moved())
        try:
            await asyncio.wait([observing, moved], return_when=asyncio.FIRST_COMPLETED)
            seen, now = observer.seen, time.monotonic()
            if moved.done() and not observing.done():
                return Watched(failed(self.check, moved.result(), *seen.summary(now)), moved=True)
            found = observing.result()
            verdict, reason = (Verdict.FAIL, f"{found.rule}: {found.reason}") if found else judge.conclude(seen, now)
            measured = seen.summary(now)
            moves = verdict is not Verdict.PASS and self._moves(plan, _rule(found))
            if moves:
                self.log.warning("%s: %s", verdict, reason)
                text, *more = await self._move_back(place, reason, public)
                await incidents.rolled_back(kube, plan, ticket, _rule(found), reason, text)
                reason, measured = f"{reason}; {text}", measured + more
            evidence = Evidence(check=self.check, verdict=verdict, reason=reason, measurements=tuple(measured))
            return Watched(evidence, _rule(found), moved=moves)
        finally:
            tasks = (observing, learning, moved, sampling)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, database.close(), return_exceptions=True)

    def _moves(self, plan: Plan, rule: str) -> bool:
        """Whether traffic goes back at once when this rule is broken."""
        critical = plan.incidents.severity_of(rule) is Severity.CRITICAL
        return self.on_breach == "move_back" or (self.on_breach == "guard" and critical)

    async def _move_back(self, place: Place, reason: str, public: Api) -> tuple[Any, ...]:
        """Says where traffic is now, with how long that took."""
        begun = time.monotonic()
        try:
            changed = await place.back(reason)
        except (FencedOut, NotReady, KubeError) as error:
            self.log.error("traffic was not moved back: %s", error)
            return (f"traffic was not moved back: {error}",)
        seconds = time.monotonic() - begun
        old = place.ticket.old_colour
        self.log.warning("traffic is back on %s after %.3f s%s", old, seconds, "" if changed else " already")
        with contextlib.suppress(KubeError):
            await let_go(place.kube, place.plan, place.ticket, public.token, DRAIN_SECONDS)
        took = Measurement(what="traffic_back_seconds", value=round(seconds, 4), unit="s", source="watch")
        return f"traffic is back on {old}", took


@dataclass(frozen=True)
class Scene:
    """Whom to watch, and where."""

    kube: Kube
    plan: Plan
    ticket: Ticket
    state: DeploymentState
    public: Api


@dataclass(frozen=True)
class Watched:
    """What one observation came to. ``rule``: what was broken; ``moved``: traffic is not there any more, by us or
    by somebody else."""

    evidence: Evidence
    rule: str = ""
    moved: bool = False


def _rule(found: judge.Finding | None) -> str:
    """Of a breach, or of an end without enough data."""
    return found.rule if found else judge.NO_DATA


class Place:
    """Where traffic is, looked at every second, so that moving it back is one request."""

    def __init__(self, kube: Kube, plan: Plan, ticket: Ticket, colour: str) -> None:
        self.kube, self.plan, self.ticket, self._colour = kube, plan, ticket, colour
        self._facts: Facts | None = None

    async def until_moved(self) -> str:
        """Gives why there is nothing left to watch: somebody else has moved traffic."""
        while True:
            with contextlib.suppress(KubeError):
                self._facts = await look_for(self.kube, self.plan, self.ticket)
                seen = switch.read(self._facts.service, self.plan.cluster)
                if seen.colour != self._colour or seen.generation > self.ticket.generation:
                    return f"traffic is not on {self._colour} any more: {seen}"
            await asyncio.sleep(LOOK_SECONDS)

    async def back(self, reason: str) -> bool:
        if self._facts is None or not self._facts.can_move:
            self._facts = await look_for(self.kube, self.plan, self.ticket)
        return await move_back(self.kube, self.plan, self._facts, reason, settled_too=False)


def _colour(ticket: Ticket, colour: str) -> str:
    return ticket.new_colour if colour == "new" else ticket.old_colour


async def _learn(kube: Kube, plan: Plan, ticket: Ticket, observer: Observer, tracker: Source, colour: str) -> None:
    """What is normal. For the new version: what the old one's pods have measured, which still run beside it. For the
    old version itself: the issues that it had before.
    """
    while True:
        try:
            if colour == "new":
                found = await normal(kube, plan, ticket.old_colour)
            else:
                found = {m.what: m.value for m in await tracker.measure() if m.value is not None}
            observer.seen.baseline.update(found)
            return
        except Exception as error:
            observer.say(f"no baseline yet: {error}")
            await asyncio.sleep(LEARN_SECONDS)
