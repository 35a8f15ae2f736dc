"""Reads one plan's cluster, Airflow and ledger for all who have its page open: ten of them cost what one does."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.models.redaction import redacted
from handover.outside import outside
from handover.ports.airflow import AirflowError, run_path
from handover.record.browse import Browser, Mark, browser
from handover.workflows.page import now as present
from handover.workflows.page.looking import ClusterSeen, look
from handover.workflows.page.parts import Part, Shared
from handover.workflows.page.views import Heard, LastStep, Now, Parts, StepNow

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi
    from handover.ports.kube import Kube

LOOK_SECONDS = 1.0
SLOW_SECONDS = 2.0
"""How often Airflow and the ledger are asked."""
DUE_SECONDS = 10.0
UNDER_WAY = frozenset({
    "running", "deferred", "queued", "scheduled", "restarting", "up_for_retry", "up_for_reschedule", "awaiting_input",
})  # fmt: skip
"""States of a task instance in which it is not over."""
MOST_STEPS = 100
REMINDER = "remind_"
"""How the tasks are named that only wait beside a question."""


class Reader:
    """With clients that are kept. It has a client of the cluster of its own: what pages ask never stands in the way of
    a rollback. `close` it at the end, on the same event loop.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self._kept = plan, AsyncExitStack()
        self._kube: Kube | None = None
        self._airflow: AirflowApi | None = None
        self._browser: Browser | None = None
        self.cluster: Part[ClusterSeen] = Part("the cluster", self._look, LOOK_SECONDS)
        self.airflow: Part[list[StepNow]] = Part("Airflow", self._steps, SLOW_SECONDS)
        self.ledger: Part[Mark] = Part("the ledger", self._mark, SLOW_SECONDS)
        self.shared = Shared()
        self.due: Part[Any] = Part("Airflow", self._due, DUE_SECONDS)

    async def now(self) -> Now:
        """Of this moment, at most `LOOK_SECONDS` old. What this person may is not in it. Never raises."""
        await self.cluster.fresh()
        await asyncio.gather(self.airflow.fresh(), self.ledger.fresh() if self.plan.record else asyncio.sleep(0))
        return self.known()

    def known(self) -> Now:
        """The same, without asking anybody."""
        plan, seen, at = self.plan, self.cluster.value, clock.epoch()
        heard = self.cluster.heard
        watches = present.watches_of(plan, seen, at) if seen else ()
        if seen is None or not heard.answers:
            watch = Heard(answers=False, at=max((one.at for one in watches), default=None), reason=heard.reason)
        else:
            watch = present.watch_heard(seen, watches)
        return Now(
            plan=plan.name, title=plan.title, at=at, dags=present.dags_of(plan),
            parts=Parts(
                cluster=heard, watch=watch, airflow=self.airflow.heard,
                ledger=self.ledger.heard if plan.record else None,
            ),
            traffic=present.traffic_of(plan, seen) if seen else None,
            deployment=present.deployment_of(plan, seen, self.airflow.value or (), self._last()) if seen else None,
            lock=present.lock_of(seen.lease) if seen else None,
            watches=watches,
            rollback=present.offer(plan, seen, "" if heard.answers else heard.reason),
        )  # fmt: skip

    async def close(self) -> None:
        for close in (self.cluster.close, self.airflow.close, self.ledger.close, self.due.close):
            await close()
        await self._kept.aclose()

    @property
    def run(self) -> str:
        """The current deployment's, as far as anybody knows; "" for none."""
        seen = self.cluster.value
        return seen.state.deployment if seen and seen.state else ""

    async def browse(self) -> Browser:
        """The ledger. Raises `LeftOut` where nothing is recorded, and what Airflow raises without a connection."""
        if self._browser is None:
            self._browser = await asyncio.to_thread(browser, self.plan.recorded.connection)
        return self._browser

    def _last(self) -> LastStep | None:
        mark = self.ledger.value
        if mark is None or not mark.step:
            return None
        phase, _, name = mark.step.rpartition(".")
        return LastStep(
            step=mark.step, phase=phase.partition(".")[0], name=name, verdict=mark.verdict, reason=mark.reason,
            at=mark.at,
        )  # fmt: skip

    async def _look(self) -> ClusterSeen:
        if self._kube is None:
            cluster = self.plan.cluster
            self._kube = await self._kept.enter_async_context(outside().kube(cluster.connection, cluster.namespace))
        return await look(self._kube, self.plan)

    async def _mark(self) -> Mark:
        browse = await self.browse()
        run = self.run
        if not run:
            _, rows = await asyncio.to_thread(browse.page, self.plan.name, 1, 0)
            run = rows[0].deployment if rows else ""
        return await asyncio.to_thread(browse.mark, run) if run else Mark()

    async def _due(self) -> Any:
        """What the Variable says is due, None for nothing."""
        from airflow.sdk import Variable

        return await asyncio.to_thread(
            Variable.get, f"{self.plan.name}_release_due", default=None, deserialize_json=True
        )

    async def _steps(self) -> list[StepNow]:
        state = self.cluster.value.state if self.cluster.value else None
        if state is None or state.over:
            return []
        runs = [(self.plan.deployment_dag_id, state.deployment)]
        if state.rollback_run:
            runs.append((self.plan.rollback_dag_id, state.rollback_run))
        return [step for found in [await asyncio.to_thread(self._tasks, *run) for run in runs] for step in found]

    def _tasks(self, dag: str, run: str) -> list[StepNow]:
        """What is under way of one run, in the order in which it began. Raises `AirflowError`."""
        airflow = self._airflow or outside().airflow(self.plan.rollback.airflow_connection)
        self._airflow = None  # one that failed may have a token that ended: the next call begins anew
        try:
            asked: dict[str, Any] = {"state": sorted(UNDER_WAY), "limit": MOST_STEPS}
            found = airflow.get(f"{run_path(dag, run)}/taskInstances", **asked)["task_instances"]
        except AirflowError as error:
            if error.status != 404:
                raise
            found = []
        self._airflow = airflow
        under_way = [one for one in found if one["state"] in UNDER_WAY and REMINDER not in one["task_id"]]
        return sorted(present.steps_of(dag, run, under_way), key=lambda step: (step.since or 0.0, step.step))


def plain(error: BaseException) -> str:
    """What went wrong, for people: one line, and nothing that looks like a secret."""
    return redacted(str(error).partition("\n")[0] or type(error).__name__)
