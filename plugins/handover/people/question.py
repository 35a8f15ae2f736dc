"""Asks a role of the plan something, and reminds it of that while nobody answers."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from handover import clock
from handover.foundation import Founded
from handover.people.asking import Asked, calls, due
from handover.people.messages import escalated, reminded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context
    from airflow.sdk.execution_time.hitl import HITLUser

    from handover.people.asking import Call
    from handover.plan.model import Plan


def assigned(plan: Plan, role: str) -> list[HITLUser]:
    """Who may answer a question to this role, as Airflow is told."""
    return [{"id": user, "name": one.title} for one in plan.may_answer(role) for user in one.users]


class RoleQuestion(Founded, HITLOperator):
    """A question to one role. Airflow cannot add somebody who may answer later: the role above may from the start, and
    is told when it is its turn (see `Remind`).

    One without ``defaults`` has no answer that Airflow's page would show as the one to take (the others look disabled
    beside it): of its time running out the task hears, and takes ``silence`` for the answer itself.

    :param role: key of the plan's team
    :param seconds: how long an answer is waited for
    :param silence: what no answer means, in the words that people are told
    """

    def __init__(
        self, *, plan: Plan, role: str, subject: str, seconds: float, silence: str, opened_by: str = "open",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        kwargs.setdefault("response_timeout", datetime.timedelta(seconds=seconds))
        super().__init__(subject=subject, assigned_users=assigned(plan, role), **kwargs)
        self.plan, self.opened_by = plan, opened_by
        self.asked = Asked(subject, role, seconds, silence)

    def asking(self, context: Context) -> Plan:
        """The plan as this run asks it: with nobody in its team who may not answer here."""
        return self.plan

    def until(self) -> float:
        """When it runs out if it is asked now, seconds since the epoch."""
        return clock.epoch() + self.asked.seconds

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        if event.get("error_type") == "timeout":
            event = {
                "chosen_options": [self.asked.silence], "params_input": {}, "responded_at": clock.utc(),
                "responded_by_user": None,
            }  # fmt: skip
        return super().execute_complete(context, event)

    def answered_as(self, by: Mapping[str, str]) -> str:
        """The title of the role that this user answers for. Known by the name: an id is the auth manager's affair."""
        titles = {user: one.title for one in reversed(self.plan.may_answer(self.asked.role)) for user in one.users}
        return titles.get(by["name"], self.plan.team[self.asked.role].title)


class Remind(BaseOperator):
    """Tells the role of a question that waits, and the role above when it is its turn (plan "Deployment Team Roles").

    A task beside the question, so that nothing that happens to it touches the question. It waits without a worker
    slot, and ends when the question is answered or everything is said. Times count from its own start, which is the
    question's; a try that was killed counts anew.
    """

    def __init__(self, *, plan: Plan, question: RoleQuestion, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan, self.opened_by = plan, question.opened_by
        self.question, self.asked = question.task_id, question.asked

    def execute(self, context: Context) -> str:
        return self._wait(context, clock.epoch(), 0)

    def wake(self, context: Context, event: Mapping[str, Any], began: float, done: int) -> str:
        """After the trigger; ``done`` reminders were sent before."""
        if not event["waiting"]:
            return "the question does not wait any more"
        plan = self._question.asking(context)
        planned = calls(plan, self.asked)
        call, after = due(planned, done, clock.epoch() - began)
        try:
            self._tell(context, plan, call, any(one.escalates for one in planned[:done]))
        except Exception as error:
            self.log.warning("nobody was reminded: %s: %s", type(error).__name__, error)
        return self._wait(context, began, after)

    def _wait(self, context: Context, began: float, done: int) -> str:
        from handover.people.triggers import QuestionTrigger

        planned = calls(self._question.asking(context), self.asked)
        if done == len(planned):
            return "every reminder was sent"
        trigger = QuestionTrigger(
            dag_id=self.dag_id, run_id=context["run_id"], task_id=self.question, at=began + planned[done].after
        )
        raise TaskDeferred(trigger=trigger, method_name="wake", kwargs={"began": began, "done": done})

    @property
    def _question(self) -> Any:
        return self.dag.get_task(self.question)

    def _tell(self, context: Context, plan: Plan, call: Call, above_too: bool) -> None:
        from handover.people.channels import tell

        where = SimpleNamespace(
            dag_id=self.dag_id, run_id=context["run_id"], task_id=self.question, map_index=context["ti"].map_index
        )
        link, left = self._question.generate_link_to_ui(task_instance=where), self.asked.seconds - call.after
        if call.escalates:
            tell(context, self.plan, escalated(plan, self.asked, link, call.after, left))
        else:
            tell(context, self.plan, reminded(plan, self.asked, link, left, above_too))
