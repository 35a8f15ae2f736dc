"""Steps that move traffic: to the preview, forward, settled, back, and off connections that stay open."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination import heartbeat, promotion
from handover.coordination.lock import FencedOut
from handover.coordination.routing import NotReady, met_at, move, read, until_behind
from handover.coordination.size import autoscaled
from handover.evidence_seal import leave
from handover.models.deployment import FencingToken, Status
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.models.record import DECISION_KEY, Decision
from handover.step import FENCING_KEY, Step, StepRun, skipped
from handover.traffic.abort import NothingToRollBack, abort, abort_or_wake, let_go, look, strengthen
from handover.traffic.cutover import Cutover, CutoverFailed
from handover.traffic.preview import shown

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.ports.kube import Kube
    from handover.ports.router import Route
    from handover.traffic.abort import Position

Colour = Literal["new", "old"]
FINAL = (FencedOut, promotion.Refused, NotReady, CutoverFailed)
"""What trying the same step again would not change."""
PREFLIGHT_SECONDS = 5.0


def _named(token: FencingToken, colour: Colour) -> str:
    return token.preview if colour == "new" else token.stable


class PointPreview(Step):
    """Plan 2.2 step 5: the preview Service shows one colour; waits until its pods are behind it, and until its address
    answers from its version, where answers tell it.
    """

    def __init__(self, *, colour: Colour = "new", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour: Colour = colour

    async def act(self, run: StepRun) -> Evidence:
        cluster, token = self.plan.cluster, run.token
        colour = _named(token, self.colour)
        async with run.kube() as kube:
            await run.fenced(kube)
            state = await run.state(kube)
            version = state.version if self.colour == "new" else state.previous_version
            router = run.router(kube, cluster.preview_service)
            try:
                await move(router, partial(promotion.show, token=token, colour=colour))
                timeout = self.plan.traffic.endpoint_timeout_seconds
                pods = await until_behind(kube, router, [cluster.selector_of(colour)], timeout)
                how = await shown(self.plan, colour, version, partial(run.fenced, kube))
            except FINAL as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{router.name} shows {colour}: {len(pods)} pods; {how}")


class SwitchTraffic(Step):
    """Plan 2.2 step 6: traffic goes from the old colour to the new one, and no request is lost.

    Killed half-way and run again, it goes on from where the route says it is. It waits until somebody watches.
    """

    async def act(self, run: StepRun) -> Evidence:
        token = run.token
        async with run.kube() as kube, run.public() as public:
            await run.fenced(kube)
            state = await run.state(kube)
            router = run.router(kube)
            silent_seconds = self.plan.watch.no_data_seconds
            if problem := await heartbeat.until_armed(kube, self.plan.lock_name, token, silent_seconds):
                return failed(self.task_id, problem)
            cutover = Cutover(
                kube, router, self.plan, token, state.version, public, partial(run.fenced, kube), state.previous_version
            )
            try:
                measured = await cutover.run()
                exposed = (await read(router, token.generation)).exposed_at
                await run.change(kube, lambda old: old.model_copy(update={"switched_at": exposed}))
            except FINAL as error:
                return failed(self.task_id, str(error))
            warning = await autoscaled(kube, self.plan.cluster, token)
        since = f" since {clock.told(exposed)}" if exposed else ""
        text = "; ".join(part for part in (f"{state.version} serves on {token.preview}{since}", warning) if part)
        return passed(self.task_id, text, *measured)


class SettleTraffic(Step):
    """The deployment ended well: from now on no watch may move traffic back any more (a rollback still may)."""

    async def act(self, run: StepRun) -> Evidence:
        async with run.kube() as kube:
            await run.fenced(kube)
            try:
                route, _ = await move(
                    run.router(kube), partial(promotion.finalise, token=run.token), at_least=run.token.generation
                )
            except FINAL as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{route.name} stays on {run.token.preview}")


class DrainColour(Step):
    """Makes keep-alive connections leave a colour that serves no more, while the other one keeps connections again.

    A pod that does not do it is no failure: it is said in the evidence, and its connections end with the pod.
    """

    def __init__(self, *, colour: Colour, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour: Colour = colour

    async def act(self, run: StepRun) -> Evidence:
        cluster, token = self.plan.cluster, run.token
        colour = _named(token, self.colour)
        away = token.model_copy(update={"stable": cluster.other(colour), "preview": colour})
        async with run.kube() as kube, run.public() as public:
            await run.fenced(kube)
            route = await run.router(kube).read()
            if colour in route.serving:
                return failed(self.task_id, f"{route}; {colour} still serves, so it is not drained")
            seconds = self.plan.traffic.drain_timeout_seconds
            kept, drained = await let_go(kube, self.plan, away, public.token, seconds)
        if not drained.told:
            later = "its kept connections are waited for when it is scaled down, and end with its pods"
            return passed(self.task_id, f"drained {drained} of {colour}: {later}")
        return passed(
            self.task_id, f"drained {colour}: {drained}; {away.stable} keeps connections: {kept}",
            Measurement(what="drained_pods", value=drained.pods, source=f"pods of {colour}"),
        )  # fmt: skip


class MoveTrafficBack(Step):
    """Rollback step 2, and the first thing that a rollback does: it waits for nothing but itself.

    One round trip reads what is deployed, one moves the route. Only then the lock is taken from the deployment, so that
    its steps are fenced out, and the rollback's token is left for the steps that follow. Traffic that the watch moved
    back already is found so.

    A rollback that another run has under way, or that is done, is skipped; one of a deployment that is not the
    current one is refused before anything is touched.
    """

    def work(self, run: StepRun) -> Evidence:
        reason = _reason(run)
        decision = Decision(at=clock.epoch(), question="Roll back?", choice="Roll back", who=run.asked_by, why=reason)
        leave(run.context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        return super().work(run)

    async def act(self, run: StepRun) -> Evidence:
        begun, reason = clock.monotonic(), _reason(run)
        weak: list[str] = []
        async with run.kube() as kube:
            router = run.router(kube)
            try:
                state, position = await look(kube, router, self.plan, run.context["params"].get("deployment") or None)
                if state.status is Status.ROLLED_BACK:
                    raise skipped(f"{state.deployment} was rolled back already")
                try:
                    route, _ = await abort(router, self.plan, position, reason)
                    seconds = clock.monotonic() - begun
                    taken = await self._take_over(run, kube, state, reason, position)
                    weak.append(await strengthen(kube, router, self.plan, position))
                except (NotReady, promotion.Asleep):
                    taken = await self._take_over(run, kube, state, reason, position)
                    position = replace(position, token=taken.token)
                    route, _ = await abort_or_wake(kube, router, self.plan, position, reason, say=weak.append)
                    seconds = clock.monotonic() - begun
                taken = await self._is_back(kube, taken, route)
            except (NothingToRollBack, *FINAL) as error:
                raise AirflowFailException(str(error)) from None
            await self._let_go(run, kube, taken.token)
            await self._may_go_on(kube)
        return passed(
            self.task_id, "; ".join([f"{taken.whereabouts}: {reason}", *filter(None, weak)]),
            Measurement(what="traffic_back_seconds", value=round(seconds, 4), unit="s", source=router.name),
        )  # fmt: skip

    async def _take_over(
        self, run: StepRun, kube: Kube, known: DeploymentState, reason: str, found: Position
    ) -> DeploymentState:
        """Takes the lock from the deployment, but not from another run that rolls it back at the moment.

        :param found: where traffic was before this rollback
        """
        from handover.coordination import lock, state

        name = self.plan.lock_name
        another = f"traffic is on {known.stable}; another run does the rest: %s. If it is dead, clear its tasks"
        if known.status is Status.ROLLING_BACK and known.rollback_run not in ("", run.run_id):
            raise skipped(another % known.rollback_run)
        if known.status is Status.ROLLING_BACK:  # an earlier try took it
            await lock.fence(kube, name, known.token)
            leave(run.context["ti"], FENCING_KEY, known.token.model_dump(mode="json"))
            return known
        whose: bool | set[str] = known.status is Status.ROLLBACK_FAILED or {known.deployment}
        try:
            generation = await lock.acquire(
                kube, name, run.run_id, f"{lock.ROLLBACK}{reason}", take_over=whose, still_at=known.generation
            )
        except lock.Locked as error:
            raise skipped(another % error) from None
        route = await run.router(kube).read()
        by_hand = clock.epoch() if found.shows(known.version) else None  # at the latest; nobody has noted when
        change = {
            "status": Status.ROLLING_BACK, "generation": generation, "rollback_reason": reason,
            "rollback_run": run.run_id, "switched_at": met_at(known, route) or by_hand, "back_at": None,
        }  # fmt: skip
        taken = await state.update(kube, name, known.token, lambda old: old.model_copy(update=change))
        leave(run.context["ti"], FENCING_KEY, taken.token.model_dump(mode="json"))
        return taken

    async def _is_back(self, kube: Kube, taken: DeploymentState, route: Route) -> DeploymentState:
        """Remembers since when; what was never away is not back."""
        from handover.coordination import state

        since = {"back_at": route.moved_at} if taken.met and taken.back_at is None else {}
        return await state.update(
            kube, self.plan.lock_name, taken.token, lambda old: old.model_copy(update=since) if since else old
        )

    async def _let_go(self, run: StepRun, kube: Kube, token: FencingToken) -> None:
        """Keep-alive clients of the new colour move over now, as far as that goes; `DrainColour` comes again."""
        try:
            async with run.public() as public:
                kept, drained = await let_go(kube, self.plan, token, public.token)
            self.log.info("drained %s of %s; %s keeps connections: %s", drained, token.preview, token.stable, kept)
        except Exception:
            self.log.exception("keep-alive connections were not moved")

    async def _may_go_on(self, kube: Kube) -> None:
        """Warns of what the steps to come may not do. Traffic is back by now, and nothing stops a rollback."""
        from handover.kube import permissions

        try:
            async with asyncio.timeout(PREFLIGHT_SECONDS):
                if problem := await permissions.refusal(kube, self.plan):
                    self.log.warning("%s", problem)
        except Exception:
            self.log.warning("the cluster did not say what the deployer may do", exc_info=True)


def _reason(run: StepRun) -> str:
    return str(run.context["params"].get("reason") or "no reason given")
