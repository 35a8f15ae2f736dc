"""The watch of a deployment, and the soaks that rest on it (plan 2.2 step 7, 5.1); that of a rollback (its step 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover import clock
from handover.evidence_seal import leave
from handover.models.record import SAMPLES_KEY
from handover.step import LOST_TRIGGERER, Step, StepRun

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.exceptions import TaskDeferred

    from handover.models.deployment import DeploymentState
    from handover.models.evidence import Evidence
    from handover.plan.model import Plan
    from handover.ports.metrics import MetricSource


def baseline_sources(plan: Plan, state: DeploymentState) -> list[MetricSource]:
    """What the watch compares with and only the time before the deployment can tell, for the `Baseline` step:
    connections of the database, disk and network of the pods that serve, and what monitors say of them.
    """
    from handover.adapters.monitors import monitors
    from handover.analysis.sources import PodUse
    from handover.workflows.watch.sources import databases

    pods = PodUse(plan, state.stable)
    return [*databases(plan), pods, *monitors(plan, version=state.previous_version, colour=state.stable)]


class WatchStep(Step):
    """What a trigger of `handover.workflows.watch.trigger` does; holds no worker slot."""

    def arguments(self, run: StepRun) -> dict[str, Any]:
        """What every trigger of them is given."""
        return {
            "plan": self.plan.model_dump(mode="json"), "token": run.token.model_dump(mode="json"),
            "check": self.task_id, "run": run.run_id,
        }  # fmt: skip

    def resume(self, context: Context, event: Any) -> Any:
        leave(context["ti"], SAMPLES_KEY, event["samples"])
        return super().resume(context, event["evidence"])

    def work(self, run: StepRun) -> Evidence:
        raise NotImplementedError("the trigger watches")


class Watch(WatchStep):
    """Observes the new version from before the first patch until the deployment has ended, several samples a second.

    On a breach the trigger moves traffic back itself, at once, and this task then fails with the evidence, which starts
    the rollback DAG. After the decision point a critical breach is an incident that the lead is asked about. The
    switch waits until this watch has heard every source; soaks wait until it has seen the version clean.

    A triggerer that dies takes the observation with it, and another one begins again: what counts is that the release
    was seen for so long in one piece, by this watch or by another one (`python -m handover watch`).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(execution_timeout=None, **kwargs)

    def execute(self, context: Context) -> Any:
        from handover.workflows.watch.trigger import WatchTrigger

        self.defer(trigger=WatchTrigger(**self.arguments(self.step_run(context))), method_name="resumed", timeout=None)


class WatchStable(WatchStep):
    """After a rollback: the old version for ``seconds``. It only says so when that is bad."""

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Context) -> Any:
        from handover.workflows.watch.trigger import StableTrigger

        trigger = StableTrigger(seconds=self.seconds, **self.arguments(self.step_run(context)))
        raise self.waiting(trigger, 2 * self.seconds)


class Soak(Step):
    """Waits until the watch has seen the new version clean for ``seconds`` in one piece, since the cutover."""

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    async def act(self, run: StepRun) -> Evidence:
        async with run.kube() as kube:
            state = await run.state(kube)
        raise self.soaking(run, self.since(state), self.seconds)

    def since(self, state: DeploymentState) -> float:
        """From when on it counts; seconds since the epoch."""
        return state.switched_at or clock.epoch()

    def soaking(self, run: StepRun, since: float, seconds: float, **how: Any) -> TaskDeferred:
        """To be raised. A soak that a breach cut short, or a triggerer that died, has time to begin once more."""
        from handover.workflows.watch.soak import SoakTrigger

        cluster = self.plan.cluster
        patience = how.pop("patience", 2 * seconds) + self.plan.watch.no_data_seconds
        trigger = SoakTrigger(
            check=self.task_id, lock=self.plan.lock_name, token=run.token.model_dump(mode="json"), since=since,
            seconds=seconds, silent_seconds=self.plan.watch.no_data_seconds, connection=cluster.connection,
            namespace=cluster.namespace, deadline=clock.epoch() + patience, **how,
        )  # fmt: skip
        return self.waiting(trigger, patience + LOST_TRIGGERER.total_seconds())


class Stabilization(Soak):
    """Plan 5.1 up to the decision point: clean for ``seconds`` from now on."""

    def since(self, state: DeploymentState) -> float:
        return clock.epoch()


class Monitoring(Stabilization):
    """Plan 5.1 after the decision point: a breach is not rolled back at once any more, and one that the lead is asked
    about ends it early, with a pass.
    """

    async def act(self, run: StepRun) -> Evidence:
        ends = {"watch_until": clock.epoch() + self.seconds}
        async with run.kube() as kube:
            state = await run.change(kube, lambda old: old if old.watch_until else old.model_copy(update=ends))
        left = max(0.0, (state.watch_until or 0.0) - clock.epoch())
        raise self.soaking(run, self.since(state), left, until_incident=True)
