"""Steps that speak to people: announcements, the maintenance banner, confirmations, the incident ticket."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination.lock import FencedOut
from handover.coordination.state import NoDeployment
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY, believed
from handover.models.annotations import AGENT
from handover.models.deployment import DeploymentState
from handover.models.evidence import Evidence, Verdict, failed, passed
from handover.models.record import DECISION_KEY, Decision
from handover.people.details import details, of_deployment, taking_back
from handover.people.messages import Message, asked
from handover.people.question import RoleQuestion
from handover.plan.parts import required
from handover.ports.channel import NewTicket
from handover.ports.kube import KubeError
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan
    from handover.plan.people import Question

PROCEED, ROLLBACK = "Proceed", "Rollback"


class Announce(Step):
    """Tells people; passes whether or not the message got through. ``message`` makes it from plan and state."""

    def __init__(self, *, message: Callable[[Plan, DeploymentState], Message], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def work(self, run: StepRun) -> Evidence:
        from handover.people.channels import letters, tell

        message = self.message(self.plan, asyncio.run(run.known()))
        if not letters(self.plan, message, run.run_id):
            return passed(self.task_id, "there is nobody to tell")
        if message.status_page == "in_progress":  # before it is said: whoever ends this has to end that
            asyncio.run(self._announced(run))
        undelivered = tell(run.context, self.plan, message)
        return passed(self.task_id, f"not delivered: {', '.join(undelivered)}" if undelivered else "delivered")

    async def _announced(self, run: StepRun) -> None:
        async with run.kube() as kube:
            await run.remember(kube, announced=True)


class Banner(Step):
    """Shows or hides the maintenance banner (plan 2.1); a release that asked for none has none."""

    needs = "banner"

    def __init__(self, *, show: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.show = show

    def work(self, run: StepRun) -> Evidence:
        return asyncio.run(self._switch(run))

    async def _switch(self, run: StepRun) -> Evidence:
        from handover.adapters.refusals import call

        async with run.kube() as kube:
            state = await run.state(kube)
            if self.show and not run.release.banner:
                return passed(self.task_id, "this release asked for no banner")
            if not self.show and not state.banner:
                return passed(self.task_id, "no banner is shown")
            await run.fenced(kube)
            banner = required(self.plan.banner, self.needs)
            await asyncio.to_thread(
                call, self.plan.traffic.api_connection, banner.method, banner.path,
                json={"enabled": self.show, "message": banner.message if self.show else ""},
                headers={"User-Agent": AGENT},
            )  # fmt: skip
            await run.remember(kube, banner=self.show)
        return passed(self.task_id, "the banner is shown" if self.show else "the banner is gone")


class Confirm(RoleQuestion):
    """Asks one role (plan 1.3, 4.3); nobody answering in time is the answer "Rollback".

    The answer is evidence for the branch behind the phase, which alone decides. One that comes when the deployment is
    over changes nothing.

    :param proceeds: what follows from "Proceed"
    """

    def __init__(self, *, plan: Plan, question: Question, proceeds: str = "the deployment goes on.", **kwargs: Any):
        super().__init__(
            plan=plan,
            role=question.role,
            seconds=question.response_seconds,
            silence=ROLLBACK,
            body="\n".join(f"- {item}" for item in question.items),
            options=[PROCEED, ROLLBACK],
            **kwargs,
        )
        self.items, self.proceeds = question.items, proceeds

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell

        state = None
        try:
            state = asyncio.run(StepRun(self.plan, context, self.opened_by).known())
        except KubeError as error:  # people are asked all the same
            self.log.warning("the question has no details: %s", error)
        else:
            self.body = self._details(context, state)
        link = self.generate_link_to_ui_from_context(context=context)
        tell(context, self.plan, asked(self.plan, self.asked, link, state))
        return super().execute(context)

    def _details(self, context: Context, state: DeploymentState) -> str:
        return details(
            of_deployment(self.plan.title, state), self.plan.may_answer(self.asked.role), self.until(),
            self.asked.silence, means={PROCEED: self.proceeds, ROLLBACK: taking_back(state)}, items=self.items,
            known=self._known(context),
        )  # fmt: skip

    def _known(self, context: Context) -> list[str]:
        """What the steps before it in its phase have found."""
        phase, found = self.task_id.partition(".")[0], []
        for task in self.get_flat_relatives(upstream=True):
            if task.task_id.partition(".")[0] == phase and (evidence := believed(context["ti"], task.task_id)):
                found.append(f"{task.task_id.rpartition('.')[2]}: {evidence.verdict}: {evidence.reason}")
        return sorted(found)

    def _over(self, context: Context) -> str:
        """Why the answer is no more asked for; "" while it is, also where the cluster does not say."""
        try:
            asyncio.run(StepRun(self.plan, context, self.opened_by).known())
        except (FencedOut, NoDeployment) as error:
            return str(error)
        except KubeError as error:
            self.log.warning("whether the deployment goes on is not known: %s", error)
        return ""

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        by, choice = answer["responded_by_user"], ", ".join(answer["chosen_options"])
        who = by["name"] if by else f"nobody (no answer in {self.asked.seconds:.0f} s)"
        title = self.plan.team[self.asked.role].title
        if over := self._over(context):
            done = by is not None and choice == ROLLBACK  # it has moved traffic itself: see `AnsweredRollback`
            said = f"{choice} by {who}" if done else f"withdrawn, so {choice} by {who} changes nothing"
            evidence = failed(self.task_id, f"{said}: {over}")
            leave(context["ti"], EVIDENCE_KEY, evidence.model_dump(mode="json"))
            raise AirflowFailException(evidence.reason)
        evidence = Evidence(
            check=self.task_id,
            verdict=Verdict.PASS if answer["chosen_options"] == [PROCEED] else Verdict.FAIL,
            reason=f"{self.answered_as(by) if by else title}: {choice} by {who}",
        )
        decision = Decision(at=clock.epoch(), question=self.subject, choice=choice, who=who, why=f"asked as {title}")
        leave(context["ti"], EVIDENCE_KEY, evidence.model_dump(mode="json"))
        leave(context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        self.log.info("%s", evidence.reason)
        return evidence.reason


class OpenTicket(Step):
    """Rollback step 6: incident ticket, with the post-mortem due within the plan's hours. What has moved nothing was no
    incident.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.people.tickets import POST_MORTEM, key_or_reason, label

        state = asyncio.run(run.known())
        if not state.moved:
            return passed(self.task_id, f"no ticket: {state.whereabouts}")
        due = clock.utc() + datetime.timedelta(hours=self.plan.messages.post_mortem_hours)
        wanted = NewTicket(
            label=label(self.plan, POST_MORTEM, state.deployment),  # the follow-ups find it by this
            kind=self.plan.messages.ticket_incident_type,
            summary=f"{self.plan.title} {state.version} was rolled back",
            description=f"Reason: {state.rollback_reason}\nDeployment: {state.deployment}\n{_timelines(state)}"
            f"Post-mortem due: {due:%Y-%m-%d %H:%M} UTC",
            due=f"{due:%Y-%m-%d}",
        )  # fmt: skip
        key = key_or_reason(self.plan, wanted)
        return passed(self.task_id, f"ticket {key}, post-mortem due {due:%Y-%m-%d %H:%M} UTC")


def _timelines(state: DeploymentState) -> str:
    return "".join(f"\n{found}\n" for found in state.incidents)
