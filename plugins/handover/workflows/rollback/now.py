"""Roll back now: traffic moves in the process that is asked, and the rollback DAG does the rest.

Whoever asks Airflow for a run of that DAG waits for its scheduler and for a new process; here it is one change of the
route, by the same fenced code as the watch's.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pydantic import Field

from handover import clock
from handover.coordination.promotion import Asleep
from handover.coordination.routing import NotReady, met_at
from handover.models.deployment import Status
from handover.models.evidence import Frozen
from handover.models.record import Decision
from handover.outside import outside
from handover.ports.airflow import AirflowError
from handover.record.ledger import ledger
from handover.traffic.abort import abort, let_go, look, read, strengthen
from handover.workflows.deployment.request import MIN_REASON
from handover.workflows.rollback.start import start_rollback

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router
    from handover.traffic.abort import Position

log = logging.getLogger(__name__)
NOT_DONE = "traffic is back; what follows it was not done from here"
AIRFLOW_SECONDS = 5.0
"""So long the answer waits for Airflow to start the rollback DAG: traffic is back by then."""


class RollbackAsked(Frozen):
    """What somebody asks for. ``deployment``: refuse unless this is the current one's run; "" for whichever it is."""

    reason: str = Field(min_length=MIN_REASON, max_length=500)
    deployment: str = Field("", max_length=250)


class RolledBack(Frozen):
    """What they are told. ``back``: whether new connections reach the old version alone; ``moved``: whether it was this
    call that saw to it; ``milliseconds``: from the first look at the cluster to the change; ``rollback``: the run that
    does the rest, "" while Airflow has not taken it; ``said``: all of it in words.
    """

    deployment: str
    back: bool
    moved: bool
    milliseconds: float
    rollback: str
    said: str


class Whereabouts(Frozen):
    """Where traffic is. ``route``: who serves, in words; the rest is empty where nothing was ever deployed."""

    route: str
    deployment: str = ""
    version: str = ""
    previous_version: str = ""
    status: str = ""


class Behind(set["asyncio.Task[None]"]):
    """What goes on though nobody waits for it. ``said``: what its failure means, for the log."""

    def start(self, work: Coroutine[Any, Any, None], said: str) -> None:
        async def quietly() -> None:
            try:
                await work
            except Exception:
                log.exception("%s", said)

        task = asyncio.create_task(quietly())
        self.add(task)
        task.add_done_callback(self.discard)


class RollBackNow:
    """For one plan, with a client of the cluster that is kept: a new one takes longer than the way back.

    `close` it at the end, on the same event loop.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._kept = plan, AsyncExitStack()
        self._opening = asyncio.Lock()
        self._kube: Kube | None = None
        self._behind = Behind()

    async def where(self) -> Whereabouts:
        """By what a rollback reads first: whoever asks before it has its connections open. Raises `KubeError` and
        `NoAccess`.
        """
        plan, kube = self._plan, await self._client()
        state, route, _ = await read(kube, outside().router(kube, plan.cluster, plan.cluster.service), plan)
        if state is None:
            return Whereabouts(route=str(route))
        return Whereabouts(
            route=str(route), deployment=state.deployment, version=state.version,
            previous_version=state.previous_version, status=state.status,
        )  # fmt: skip

    async def roll_back(self, asked: RollbackAsked, who: str) -> RolledBack:
        """Moves traffic, then has the rollback DAG started. Twice is once. An old colour that sleeps is woken by that
        DAG, so then traffic has not moved yet.

        Raises `NothingToRollBack`, `FencedOut`, `Refused`, `KubeError` and `NoAccess`: nothing was changed.
        """
        plan, kube = self._plan, await self._client()
        router = outside().router(kube, plan.cluster, plan.cluster.service)
        reason, begun = f"{asked.reason} ({who})", clock.monotonic()
        state, position = await look(kube, router, plan, asked.deployment or None)
        back, moved = True, False
        try:
            _, moved = await abort(router, plan, position, reason)
            said = f"traffic is on {state.stable} ({state.previous_version})"
        except (NotReady, Asleep) as error:
            back, said = False, f"traffic has not moved yet: {error}"
        took = round((clock.monotonic() - begun) * 1000, 1)
        if back:
            self._behind.start(self._afterwards(kube, router, state, position, asked, who), NOT_DONE)
        run = await self._start(state, reason)
        return RolledBack(
            deployment=state.deployment, back=back, moved=moved, milliseconds=took, rollback=run,
            said=f"{said}; {_rest(run)}",
        )  # fmt: skip

    async def answered(self, deployment: str, reason: str) -> str:
        """Traffic alone, for somebody whose answer has a step that does the rest; what became of it, in words. What no
        client has met stays as it is.

        Raises `NothingToRollBack`, `NotReady`, `Asleep`, `FencedOut`, `Refused`, `KubeError` and `NoAccess`.
        """
        plan, kube = self._plan, await self._client()
        router = outside().router(kube, plan.cluster, plan.cluster.service)
        state, position = await look(kube, router, plan, deployment)
        if state.status is not Status.DEPLOYING or met_at(state, position.route) is None:
            return f"{state.deployment} is {state.status}, and {position.route}: nothing was moved"
        route, _ = await abort(router, plan, position, reason)
        self._behind.start(self._settle(kube, router, state, position), NOT_DONE)
        return str(route)

    async def close(self) -> None:
        """Ends what goes on beside, and the client."""
        for task in self._behind:
            task.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)
        await self._kept.aclose()

    # --- what nobody waits for

    async def _afterwards(
        self, kube: Kube, router: Router, state: DeploymentState, position: Position, asked: RollbackAsked, who: str
    ) -> None:
        plan = self._plan
        await self._settle(kube, router, state, position)
        if plan.record:
            decision = Decision(
                deployment=state.deployment, run=state.deployment, step="roll_back_now", at=clock.epoch(),
                question="Roll back now?", choice="Rollback", who=who, why=asked.reason,
            )  # fmt: skip
            await asyncio.to_thread(ledger(plan.recorded.connection).write, [decision])

    async def _settle(self, kube: Kube, router: Router, state: DeploymentState, position: Position) -> None:
        """Enough pods behind traffic, and kept connections over to them. The rollback DAG does both again."""
        if weak := await strengthen(kube, router, self._plan, position):
            log.warning("%s", weak)
        async with outside().public(self._plan.traffic.api_connection) as public:
            await let_go(kube, self._plan, state.token, public.token)

    async def _start(self, state: DeploymentState, reason: str) -> str:
        """The rollback DAG's run, "" where Airflow did not take it: whoever watches starts it then."""
        try:
            async with asyncio.timeout(AIRFLOW_SECONDS):
                return await asyncio.to_thread(start_rollback, self._plan, state.deployment, reason)
        except (AirflowError, TimeoutError) as error:
            log.warning("the rollback DAG was not started: %s", error or "no answer in time")
            return ""

    async def _client(self) -> Kube:
        """Opened once. Raises `NoAccess`."""
        async with self._opening:
            if self._kube is None:
                cluster = self._plan.cluster
                self._kube = await self._kept.enter_async_context(outside().kube(cluster.connection, cluster.namespace))
            return self._kube


def _rest(run: str) -> str:
    if run:
        return f"{run} does the rest"
    return "Airflow has not taken the rollback DAG; the watch goes on trying, or start it by hand"
