"""Watches a colour that serves (plan 2.2 step 7, 5.1, rollback step 5)."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from handover import clock
from handover.models.evidence import Evidence
from handover.models.incident import OnBreach
from handover.models.record import SAMPLES_KEY
from handover.step import LOST_TRIGGERER, Step, StepRun

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.metrics import MetricSource


def baseline_sources(plan: Plan, state: DeploymentState) -> list[MetricSource]:
    """What the watch compares with and only the time before the deployment can tell, for the `Baseline` step:
    connections of the database, disk and network of the pods that serve.
    """
    from handover.analysis.sources import PodUse
    from handover.database.sources import DatabaseSource

    database = DatabaseSource(plan.migration.primary_connection, plan.migration.replica_connections)
    return [database, PodUse(plan, state.stable)]


class Watch(Step):
    """Observes one colour without a break for ``seconds``, several samples a second, and holds no worker slot.

    The trigger does the work: on a breach it moves traffic back itself, at once, and this task then fails with the
    evidence, which starts the rollback DAG. It passes only when every source gave data to the end.

    A triggerer that dies takes the observation with it, and another one begins the soak again from zero: what counts
    is that the release was seen for so long in one piece. So Airflow's own timeout leaves room for that once.

    :param seconds: one of the plan's ``watch.*_seconds``
    :param colour: whose pods
    :param on_breach: ``move_back`` moves traffic to the old colour; ``ask`` records an incident, and passes with it
        when it is critical, so that the next step can ask; ``guard`` moves traffic back for a critical incident, and
        records the others; ``fail`` only says so (the rollback's own watch: a rollback
        is never rolled back)
    """

    def __init__(
        self, *, seconds: float, colour: Literal["new", "old"] = "new",
        on_breach: OnBreach = "move_back", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if colour == "old" and on_breach != "fail":
            raise ValueError("a watch of the old colour has nowhere to move traffic: use on_breach='fail'")
        if on_breach not in get_args(OnBreach):
            raise ValueError(f"on_breach: {on_breach!r} is none of {', '.join(get_args(OnBreach))}")
        self.seconds, self.colour, self.on_breach = seconds, colour, on_breach

    def execute(self, context: Context) -> Any:
        if self.on_breach == "ask":
            asyncio.run(self._begin(self.step_run(context)))
        return self.watch(context, self.seconds)

    async def _begin(self, run: StepRun) -> None:
        """Writes down when the watch ends, since an incident may end it earlier."""
        ends = {"watch_until": clock.epoch() + self.seconds}
        async with run.kube() as kube:
            await run.change(kube, lambda old: old if old.watch_until else old.model_copy(update=ends))

    def watch(self, context: Context, seconds: float) -> Any:
        """Defers to the trigger, which does the work."""
        from handover.workflows.watch.trigger import WatchTrigger

        trigger = WatchTrigger(
            plan=self.plan.model_dump(mode="json"),
            token=self.step_run(context).token.model_dump(mode="json"),
            check=self.task_id,
            seconds=seconds,
            colour=self.colour,
            on_breach=self.on_breach,
            run=context["run_id"],
        )
        timeout = datetime.timedelta(seconds=2 * seconds) + LOST_TRIGGERER
        self.defer(trigger=trigger, method_name="resume", timeout=timeout)

    def resume(self, context: Context, event: Any) -> Any:
        context["ti"].xcom_push(key=SAMPLES_KEY, value=event["samples"])
        return super().resume(context, event["evidence"])

    def work(self, run: StepRun) -> Evidence:
        raise NotImplementedError("the trigger watches")
