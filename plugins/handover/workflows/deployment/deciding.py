"""What decides whether a deployment goes on: the window, the branch behind each phase, the start of the rollback."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.bases.branch import BranchMixIn
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination.lock import FencedOut
from handover.coordination.routing import met_at
from handover.coordination.state import NoDeployment
from handover.evidence_seal import leave
from handover.foundation import BRANCH_KEY, believed
from handover.models.evidence import Evidence, failed, passed
from handover.models.record import DECISION_KEY, SYSTEM, Decision
from handover.people.operators import PROCEED, ROLLBACK
from handover.plan import freeze, window
from handover.ports.kube import KubeError
from handover.step import FENCING_KEY, Step, StepRun, skipped
from handover.workflows.deployment.decision import PhaseDecision, decide
from handover.workflows.deployment.overrides import not_agreed
from handover.workflows.rollback.start import OPEN_TASK

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan


class WindowOpen(Step):
    """Waits, without a worker slot, until traffic may move (plan "Deployment Window"); an override passes at once."""

    def execute(self, context: Context) -> Any:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        opens = window.opening(self.plan.window, clock.utc())
        if not self.step_run(context).release.window_override and opens > clock.utc():
            self.log.info("waiting until %s", opens)
            self.defer(trigger=DateTimeTrigger(moment=opens), method_name="execute_complete")
        return self.execute_complete(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        return self.conclude(context, self.work(self.step_run(context)))

    def work(self, run: StepRun) -> Evidence:
        if run.release.window_override:
            if problem := not_agreed(run.context["ti"], self.plan, run.release, "", clock.utc()):
                raise AirflowFailException(f"{problem}; nothing was switched")
            return passed(self.task_id, f"overridden: {run.release.window_override_reason}")
        if not window.is_open(self.plan.window, clock.utc()):
            raise AirflowFailException("the deployment window has closed; nothing was switched")
        if why := freeze.frozen(self.plan.freeze, self.plan.window.timezone, clock.utc()):
            raise AirflowFailException(f"nothing may be deployed now: {why}; nothing was switched")
        return passed(self.task_id, f"open until {self.plan.window.closes:%H:%M} {self.plan.window.timezone}")


class Decide(BaseOperator, BranchMixIn):
    """The branch after a phase: proceed or roll back, from the evidence of every step in it, and says why."""

    def __init__(self, *, plan: Plan, phase: str, reads: list[str], proceed_to: str, roll_back: str, **kwargs: Any):
        super().__init__(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, **kwargs)
        self.plan, self.phase, self.reads = plan, phase, reads
        self.proceed_to, self.roll_back = proceed_to, roll_back

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell
        from handover.people.messages import decided

        decision = decide({task: believed(context["ti"], task) for task in self.reads})
        over, moved = asyncio.run(self._standing(context))
        if over:
            decision = PhaseDecision(False, [over])
        for reason in decision.reasons:
            self.log.info("%s", reason)
        self.log.info("%s: %s", self.phase, "proceed" if decision.proceed else "roll back")
        if not over:  # else people know it, and from who ended it
            tell(context, self.plan, decided(self.plan, self.phase, decision.proceed, decision.reasons, moved=moved))
        context["ti"].xcom_push(key="reasons", value=decision.reasons)
        choice = PROCEED if decision.proceed else ROLLBACK
        entry = Decision(
            at=clock.epoch(), question=f"After {self.phase}", choice=choice, who=SYSTEM, why="; ".join(decision.reasons)
        )
        leave(context["ti"], DECISION_KEY, entry.model_dump(mode="json"))
        conclude = passed if decision.proceed else failed
        leave(context["ti"], BRANCH_KEY, conclude(self.task_id, entry.why).model_dump(mode="json"))
        return self.do_branch(context, self.proceed_to if decision.proceed else self.roll_back)

    async def _standing(self, context: Context) -> tuple[str, bool]:
        """Why there is nothing more to decide ("" while there is), and whether anything that clients depend on has
        changed, which it has where the cluster does not say.
        """
        run = StepRun(self.plan, context, OPEN_TASK)
        try:
            async with run.kube() as kube:
                state = await run.state(kube)
                return "", state.moved or met_at(state, await run.router(kube).read()) is not None
        except (FencedOut, NoDeployment) as error:
            return str(error), True
        except KubeError as error:
            self.log.warning("whether the deployment goes on is not known: %s", error)
            return "", True


class RollBack(BaseOperator):
    """Starts the rollback DAG, then fails, so that the deployment run ends failed whatever else succeeded. Of a run
    that was refused there is nothing to roll back: this is skipped, and the run fails by what it was refused for.
    """

    def __init__(self, *, plan: Plan, reason_from: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("retries", 10)
        kwargs.setdefault("retry_delay", datetime.timedelta(seconds=3))
        super().__init__(**kwargs)
        self.plan, self.reason_from = plan, reason_from

    def execute(self, context: Context) -> Any:
        from handover.workflows.rollback.start import start_rollback

        if context["ti"].xcom_pull(task_ids=OPEN_TASK, key=FENCING_KEY) is None:
            raise skipped("this deployment was never opened: there is nothing to roll back")
        reasons = context["ti"].xcom_pull(task_ids=self.reason_from, key="reasons") if self.reason_from else None
        reason = "; ".join(reasons or []) or "a step of the deployment failed"
        run_id = start_rollback(self.plan, context["run_id"], reason)
        raise AirflowFailException(f"rolled back by {self.plan.rollback_dag_id} run {run_id}: {reason}")
