"""Steps that move traffic: to the preview, forward, settled, back, and off connections that stay open."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowFailException

from pms.kube.lock import FencedOut
from pms.models.deployment import Status, Ticket
from pms.models.evidence import Evidence, Measurement, failed, passed
from pms.models.record import DECISION_KEY, Decision
from pms.step import TICKET_KEY, Job, Step, skipped
from pms.traffic import switch
from pms.traffic.api import api
from pms.traffic.back import Known, NothingToRollBack, let_go, look, move_back, wake_old
from pms.traffic.forward import Forward, SwitchFailed
from pms.traffic.service import SERVICES, NotReady, change, until_behind

if TYPE_CHECKING:
    from pms.kube.client import Kube

Colour = Literal["new", "old"]
FINAL = (FencedOut, switch.Refused, NotReady, SwitchFailed)
"""What trying the same step again would not change."""
PREFLIGHT_SECONDS = 5.0


def _named(ticket: Ticket, colour: Colour) -> str:
    return ticket.new_colour if colour == "new" else ticket.old_colour


class PointPreview(Step):
    """Plan 2.2 step 5: the preview Service shows one colour, and waits until its pods are behind it."""

    def __init__(self, *, colour: Colour = "new", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour: Colour = colour

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._point(job))

    async def _point(self, job: Job) -> Evidence:
        cluster, ticket = self.plan.cluster, job.ticket
        name, colour = cluster.preview_service, _named(ticket, self.colour)
        async with job.kube() as kube:
            await job.fenced(kube)
            try:
                await change(kube, name, partial(switch.preview, cluster=cluster, ticket=ticket, colour=colour))
                timeout = self.plan.traffic.endpoint_timeout_seconds
                pods = await until_behind(kube, name, [cluster.selector_of(colour)], timeout)
            except FINAL as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{name} shows {colour}: {len(pods)} pods")


class SwitchTraffic(Step):
    """Plan 2.2 step 6: traffic goes from the old colour to the new one, and no request is lost.

    Killed half-way and run again, it goes on from where the Service says it is.
    """

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._switch(job))

    async def _switch(self, job: Job) -> Evidence:
        ticket, public = job.ticket, await api(self.plan.traffic.api_connection)
        async with job.kube() as kube:
            await job.fenced(kube)
            state = await job.change(
                kube, lambda old: old if old.switched_at else old.model_copy(update={"switched_at": time.time()})
            )
            forward = Forward(kube, self.plan, ticket, state.version, public, partial(job.fenced, kube))
            try:
                measured = await forward.run()
            except FINAL as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{state.version} serves on {ticket.new_colour}", *measured)


class SettleTraffic(Step):
    """The deployment ended well: from now on no watch may move traffic back any more (a rollback still may)."""

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._settle(job))

    async def _settle(self, job: Job) -> Evidence:
        cluster, ticket = self.plan.cluster, job.ticket
        async with job.kube() as kube:
            await job.fenced(kube)
            try:
                await change(kube, cluster.service, partial(switch.settle, cluster=cluster, ticket=ticket))
            except FINAL as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{cluster.service} stays on {ticket.new_colour}")


class DrainColour(Step):
    """Makes keep-alive connections leave a colour that serves no more, while the other one keeps connections again.

    A pod that does not do it is no failure: it is said in the evidence, and its connections end with the pod.
    """

    def __init__(self, *, colour: Colour, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour: Colour = colour

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._drain(job))

    async def _drain(self, job: Job) -> Evidence:
        cluster, ticket = self.plan.cluster, job.ticket
        colour = _named(ticket, self.colour)
        away = ticket.model_copy(update={"old_colour": cluster.other(colour), "new_colour": colour})
        token = (await api(self.plan.traffic.api_connection)).token
        async with job.kube() as kube:
            await job.fenced(kube)
            seen = switch.read(await kube.get(SERVICES, cluster.service), cluster)
            if seen.colour in (None, colour):
                return failed(self.task_id, f"{seen}; {colour} still serves, so it is not drained")
            kept, drained = await let_go(kube, self.plan, away, token, self.plan.traffic.drain_timeout_seconds)
        return passed(
            self.task_id, f"drained {colour}: {drained}; {away.old_colour} keeps connections: {kept}",
            Measurement(what="drained_pods", value=drained.pods, source=f"pods of {colour}"),
        )  # fmt: skip


class MoveTrafficBack(Step):
    """Rollback step 2, and the first thing that a rollback does: it waits for nothing but itself.

    One round trip reads what is deployed, one patches the Service. Only then the lock is taken from the deployment,
    so that its steps are fenced out, and the rollback's ticket is left for the steps that follow. Traffic that the
    watch moved back already is found so.

    A rollback that another run has under way, or that is done, is skipped; one of a deployment that is not the
    current one is refused before anything is touched.
    """

    def work(self, job: Job) -> Evidence:
        params = job.context["params"]
        reason = str(params.get("reason") or "no reason given")
        decision = Decision(at=time.time(), question="Roll back?", choice="Roll back", who=job.asked_by, why=reason)
        job.context["ti"].xcom_push(key=DECISION_KEY, value=decision.model_dump(mode="json"))
        return asyncio.run(self._back(job, reason, params.get("deployment") or None))

    async def _back(self, job: Job, reason: str, deployment: str | None) -> Evidence:
        begun = time.monotonic()
        async with job.kube() as kube:
            try:
                facts = await look(kube, self.plan, deployment)
                if facts.state.status is Status.ROLLED_BACK:
                    raise skipped(f"{facts.state.deployment} was rolled back already")
                if not facts.can_move:
                    await self._take_over(job, kube, facts, reason)
                    facts = await wake_old(kube, self.plan, facts)
                await move_back(kube, self.plan, facts, reason)
                seconds = time.monotonic() - begun
                await self._take_over(job, kube, facts, reason)
            except (NothingToRollBack, *FINAL) as error:
                raise AirflowFailException(str(error)) from None
            await self._let_go(kube, facts.ticket)
            await self._may_go_on(kube)
        old = facts.state.old_colour
        text = f"traffic was on {old} already" if facts.on_old else f"traffic is back on {old}"
        source = f"service {self.plan.cluster.service}"
        return passed(
            self.task_id, f"{text} ({facts.state.previous_version}): {reason}",
            Measurement(what="traffic_back_seconds", value=round(seconds, 4), unit="s", source=source),
        )  # fmt: skip

    async def _take_over(self, job: Job, kube: Kube, facts: Known, reason: str) -> None:
        """Takes the lock from the deployment, but not from another run that rolls it back at the moment."""
        from pms.kube import lock, state

        known, name = facts.state, self.plan.lock_name
        whose: bool | str = known.status is Status.ROLLBACK_FAILED or known.deployment
        try:
            generation = await lock.acquire(kube, name, job.run_id, f"rollback: {reason}", take_over=whose)
        except lock.Locked as error:
            raise skipped(
                f"traffic is on {known.old_colour}; another run does the rest: {error}. If it is dead, clear its tasks"
            ) from None
        change = {"status": Status.ROLLING_BACK, "generation": generation, "rollback_reason": reason}
        await state.update(kube, name, facts.ticket, lambda old: old.model_copy(update=change))
        ticket = facts.ticket.model_copy(update={"generation": generation})
        job.context["ti"].xcom_push(key=TICKET_KEY, value=ticket.model_dump(mode="json"))

    async def _let_go(self, kube: Kube, ticket: Ticket) -> None:
        """Keep-alive clients of the new colour move over now, as far as that goes; `DrainColour` comes again."""
        try:
            token = (await api(self.plan.traffic.api_connection)).token
            kept, drained = await let_go(kube, self.plan, ticket, token)
            self.log.info(
                "drained %s of %s; %s keeps connections: %s", drained, ticket.new_colour, ticket.old_colour, kept
            )
        except Exception:
            self.log.exception("keep-alive connections were not moved")

    async def _may_go_on(self, kube: Kube) -> None:
        """Warns of what the steps to come may not do. Traffic is back by now, and nothing stops a rollback."""
        from pms.kube import permissions

        try:
            async with asyncio.timeout(PREFLIGHT_SECONDS):
                if problem := await permissions.refusal(kube, self.plan):
                    self.log.warning("%s", problem)
        except Exception:
            self.log.warning("the cluster did not say what the deployer may do", exc_info=True)
