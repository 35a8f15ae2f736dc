"""Steps that scale down a colour that is no longer needed.

Nothing that serves is ever scaled down: the route says that the colour is about to go before it goes, and the change of
the Deployment is a compare and swap on what it was before anybody looked. Whoever moves traffic to the colour meanwhile
either finds the note on the route and wakes the colour first, or has changed the Deployment, so that this step looks
again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.coordination import promotion
from handover.coordination.routing import DEPLOYMENTS, move
from handover.models import names
from handover.models.annotations import as_annotations
from handover.models.evidence import Evidence, failed, passed
from handover.plan.measures import measures_of
from handover.ports.kube import Conflict
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.ports.kube import Kube
    from handover.ports.router import Route, Router


COUNTED = (names.PODS, names.ERROR_RATE)
"""The measure of a plan whose pods count their requests."""


class ScaleDown(Step):
    """Scales one colour to 0, once it answers nobody; refuses while traffic goes to it.

    :param quiet_seconds: how long no request may come before the colour counts as idle
    :param timeout: seconds to wait for that; the plan's ``traffic.drain_timeout_seconds`` by default
    """

    def __init__(self, *, quiet_seconds: float = 3.0, timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quiet_seconds = quiet_seconds
        self.timeout = timeout or self.plan.traffic.drain_timeout_seconds

    def colour(self, run: StepRun) -> str:
        raise NotImplementedError

    async def claim(self, router: Router, run: StepRun) -> Route:
        """Says on the route that the colour is about to go, where anybody could want it back; gives the route then."""
        raise NotImplementedError

    def busy(self, colour: str, reason: str) -> Evidence | None:
        """What it means that the colour still answers requests; None: scale down nevertheless."""
        raise NotImplementedError

    def work(self, run: StepRun) -> Evidence:
        from handover.workload.triggers import QuietTrigger

        cluster, colour = self.plan.cluster, self.colour(run)
        if evidence := asyncio.run(self.nothing_to_do(run, colour)):
            return evidence
        trigger = QuietTrigger(
            connection=cluster.connection,
            namespace=cluster.namespace,
            deadline=clock.epoch() + self.timeout,
            plan=self.plan.model_dump(mode="json"),
            colour=colour,
            quiet_seconds=self.quiet_seconds,
        )
        raise self.waiting(trigger, self.timeout)

    def resume(self, context: Any, event: Any) -> str:
        run = self.step_run(context)
        colour = self.colour(run)
        if not event["quiet"] and (evidence := self.busy(colour, event["reason"])):
            self.log.warning("%s", evidence.reason)
            return self.conclude(context, evidence)
        return self.conclude(context, asyncio.run(self.scale_down(run, colour, event["reason"])))

    async def nothing_to_do(self, run: StepRun, colour: str) -> Evidence | None:
        """How the step ends at once, or None."""
        name = self.plan.cluster.deployment_of(colour)
        async with run.kube() as kube:
            if evidence := self._serves(await run.router(kube).read(), colour):
                return evidence
            deployment = await kube.find(DEPLOYMENTS, name)
        if deployment is None:
            return passed(self.task_id, f"there is no {name}")
        return passed(self.task_id, f"{name} is scaled to 0") if not deployment["spec"].get("replicas", 1) else None

    async def scale_down(self, run: StepRun, colour: str, reason: str) -> Evidence:
        """Once nobody is served there."""
        async with run.kube() as kube:
            router = run.router(kube)
            while True:
                with suppress(Conflict):  # somebody has changed the Deployment since it was read: look again
                    return await self._scaled_down(run, kube, router, colour, reason)

    async def _scaled_down(self, run: StepRun, kube: Kube, router: Router, colour: str, reason: str) -> Evidence:
        name = self.plan.cluster.deployment_of(colour)
        read = (await kube.get(DEPLOYMENTS, name))["metadata"]["resourceVersion"]  # before anything is looked at
        await run.fenced(kube)
        try:
            route = await self.claim(router, run)
        except promotion.Refused as error:
            return failed(self.task_id, str(error))
        if evidence := self._serves(route, colour):
            return evidence
        said = as_annotations(generation=str(run.token.generation))
        change = {"metadata": {"resourceVersion": read, "annotations": said}, "spec": {"replicas": 0}}
        await kube.merge(DEPLOYMENTS, name, change)
        return passed(self.task_id, f"{name} is scaled to 0: {reason}")

    def _serves(self, route: Route, colour: str) -> Evidence | None:
        return failed(self.task_id, f"{route}; it is not scaled down") if colour in route.serving else None


class RetireColour(ScaleDown):
    """End of Phase 5: scales the old colour down, only when it serves nothing.

    A good deployment does not fail for it: a colour that is still busy is left running, with a warning. Where the plan
    leaves out what pods count, nobody can tell, and it goes by time: its pods end what they have begun.
    """

    def colour(self, run: StepRun) -> str:
        return run.token.stable

    async def claim(self, router: Router, run: StepRun) -> Route:
        route, _ = await move(router, partial(promotion.retire, token=run.token), at_least=run.token.generation)
        return route

    def busy(self, colour: str, reason: str) -> Evidence | None:
        if not any(one.phases for one in measures_of(self.plan) if (one.source, one.name) == COUNTED):
            return None
        warning = f"warning: {colour} is left running, it is not idle after {self.timeout:g} s: {reason}"
        return passed(self.task_id, warning)


class RemoveIdleColour(ScaleDown):
    """Rollback: scales the new colour to 0, once traffic is off it (or never was on it)."""

    def colour(self, run: StepRun) -> str:
        return run.token.preview

    def work(self, run: StepRun) -> Evidence:
        if asyncio.run(run.known()).met:
            return super().work(run)
        return asyncio.run(self._at_once(run))

    async def _at_once(self, run: StepRun) -> Evidence:
        colour = self.colour(run)
        return await self.nothing_to_do(run, colour) or await self.scale_down(run, colour, "no client ever met it")

    async def claim(self, router: Router, run: StepRun) -> Route:
        """The route says already that this deployment was aborted, and so that nobody sends traffic there any more."""
        return await router.read()

    def busy(self, colour: str, reason: str) -> Evidence | None:
        self.log.warning("%s is still busy after %g s and ends nevertheless: %s", colour, self.timeout, reason)
        return None
