"""Fix or rollback? What is asked, waited for and written down after a critical incident (plan 5.3)."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination.lock import FencedOut
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import Evidence, failed, passed
from handover.models.incident import Resolution, given_up, pending
from handover.models.record import DECISION_KEY, Decision
from handover.people.details import details, of_deployment, taking_back
from handover.people.operators import ROLLBACK
from handover.people.question import RoleQuestion
from handover.ports.channel import NewTicket
from handover.step import Step, StepRun
from handover.workflows.watch import incidents
from handover.workflows.watch.steps import Soak

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan

FIX = "Fix"


class FixOrRollback(RoleQuestion):
    """Asks the plan's role about a critical incident; without one it passes at once. Nobody answering in time is the
    answer "Rollback", and that answer fails the task, which starts the rollback.
    """

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        incidents = plan.incidents
        super().__init__(
            plan=plan,
            role=incidents.role,
            seconds=incidents.response_seconds,
            silence=ROLLBACK,
            subject="5.3 Critical incident: fix or rollback?",
            options=[FIX, ROLLBACK],
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell
        from handover.people.messages import asked

        state = asyncio.run(self._step_run(context).known())
        if nothing := _nothing_to_do(self.task_id, state):
            return self._conclude(context, nothing)
        minutes = self.plan.incidents.fix_seconds / 60
        self.body = details(
            of_deployment(self.plan.title, state), self.plan.may_answer(self.asked.role), self.until(),
            self.asked.silence, known=str(pending(state.incidents)).splitlines(),
            means={FIX: f"you have {minutes:g} minutes until it has to work.", ROLLBACK: taking_back(state)},
        )  # fmt: skip
        link = self.generate_link_to_ui_from_context(context=context)
        tell(context, self.plan, asked(self.plan, self.asked, link, state))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        by, fix = answer["responded_by_user"], answer["chosen_options"] == [FIX]
        who = by["name"] if by else f"nobody (no answer in {self.asked.seconds:.0f} s)"
        said = f"{FIX if fix else ROLLBACK} by {who}"
        decision = Decision(at=clock.epoch(), question=self.subject, choice=FIX if fix else ROLLBACK, who=who)
        leave(context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        try:
            state = asyncio.run(_add(self._step_run(context), said, None if fix else Resolution.ROLLED_BACK))
        except FencedOut as error:  # the answer has moved traffic already, and the rollback was quicker than this task
            return self._conclude(context, failed(self.task_id, f"{said}: {error}"))
        conclude = passed if fix else failed
        return self._conclude(context, conclude(self.task_id, f"{said}: {state.incidents[-1].reason}"))

    def _conclude(self, context: Context, evidence: Evidence) -> str:
        leave(context["ti"], EVIDENCE_KEY, evidence.model_dump(mode="json"))
        if not evidence.passed:
            raise AirflowFailException(f"{self.task_id}: {evidence.reason}")
        self.log.info("%s", evidence.reason)
        return evidence.reason

    def _step_run(self, context: Context) -> StepRun:
        return StepRun(self.plan, context, self.opened_by)


class FixWorks(Soak):
    """Waits until the fix of a critical incident has been healthy for long enough, or its time is over."""

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(plan=plan, seconds=plan.incidents.healthy_seconds, **kwargs)

    async def act(self, run: StepRun) -> Evidence:
        if nothing := _nothing_to_do(self.task_id, await run.known()):
            return nothing
        seconds = self.plan.incidents.fix_seconds
        too_late = f"nothing that was tried worked within {seconds / 60:g} minutes"
        raise self.soaking(run, clock.epoch(), self.seconds, patience=seconds + self.seconds, too_late=too_late)

    def resume(self, context: Context, event: Any) -> Any:
        evidence = Evidence.model_validate(event)
        outcome = Resolution.FIXED if evidence.passed else Resolution.ROLLED_BACK
        asyncio.run(_add(self.step_run(context), f"{self.task_id}: {evidence.reason}", outcome))
        return self.conclude(context, evidence)


class MonitoringAfterFix(Soak):
    """After a fix that works: to the end of the monitoring that the incident has cut short, and at least for as long as
    a fix has to be healthy. A second critical incident is not put to anybody any more, the watch rolls it back at
    once. Without an incident it passes at once.
    """

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(plan=plan, seconds=plan.incidents.healthy_seconds, **kwargs)

    async def act(self, run: StepRun) -> Evidence:
        state = await run.known()
        if lost := given_up(state.incidents):
            return failed(self.task_id, f"{lost.timeline[-1].what}: {lost.reason}")
        if not any(one.outcome is Resolution.FIXED for one in state.incidents):
            return passed(self.task_id, "no incident")
        left = (state.watch_until or 0) - clock.epoch()
        if left <= 0:
            return passed(self.task_id, "the fix was watched to the end of the monitoring")
        raise self.soaking(run, clock.epoch(), max(left, self.seconds))


class DocumentIncidents(Step):
    """A ticket for each incident that did not end in a rollback (which opens one itself), with its timeline."""

    def work(self, run: StepRun) -> Evidence:
        from handover.people.tickets import INCIDENT, key_or_reason, label

        state = asyncio.run(run.known())
        due = clock.utc() + datetime.timedelta(hours=self.plan.messages.post_mortem_hours)
        wanted = [
            NewTicket(
                label=label(self.plan, INCIDENT, state.deployment, found.rule, f"{found.began:.3f}"),
                kind=self.plan.messages.ticket_incident_type,
                summary=f"{self.plan.title} {state.version}: {found.severity} incident, {found.rule}",
                description=str(found), due=f"{due:%Y-%m-%d}",
            )
            for found in state.incidents
        ]  # fmt: skip
        keys = [key_or_reason(self.plan, one) for one in wanted]
        return passed(self.task_id, f"tickets {', '.join(keys)}" if keys else "no incident")


def _nothing_to_do(check: str, state: DeploymentState) -> Evidence | None:
    """How a step ends that finds no open incident, or None. One that ended in a rollback is a failure: whoever wrote
    that was killed before it could fail.
    """
    if lost := given_up(state.incidents):
        return failed(check, f"{lost.timeline[-1].what}: {lost.reason}")
    return passed(check, "no incident") if pending(state.incidents) is None else None


async def _add(run: StepRun, what: str, outcome: Resolution | None) -> DeploymentState:
    async with run.kube() as kube:
        return await incidents.add(kube, run.plan, run.token, what, outcome)
