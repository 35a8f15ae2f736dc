"""The steps before a deployment: which release is announced for which window, the moments, the questions."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from handover import clock
from handover.evidence_seal import leave
from handover.models.evidence import Evidence, passed
from handover.models.message import ANNOUNCED_KEY, Announced
from handover.models.record import DECISION_KEY, Decision
from handover.people import announcements as wording
from handover.people.details import details
from handover.people.messages import Message
from handover.plan import window
from handover.step import Step, StepRun, skipped
from handover.workflows.deployment.opening import release_due
from handover.workflows.deployment.request import BadRequest, release_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from handover.plan.model import Plan

YES, NO = "Yes", "No"
FARTHEST = datetime.timedelta(days=366)
"""From now to a window that is announced."""


def announced_window(plan: Plan, start: str | None, now: datetime.datetime) -> tuple[float, float]:
    """When the window opens and closes, in seconds since the epoch; ``start``: of a run by hand, ISO 8601, else the
    plan's next window. Raises `BadRequest`.
    """
    opens = window.upcoming(plan.window, now)
    if start:
        try:
            opens = datetime.datetime.fromisoformat(start)
        except (ValueError, TypeError):
            raise BadRequest(f"window_start: {start!r:.60} is no time; write it as 2026-12-01T14:00:00Z") from None
        if opens.tzinfo is None:
            raise BadRequest(f"window_start: {start!r} has no time zone; add Z or +01:00")
        if opens <= now:
            raise BadRequest(f"window_start: {start!r} is over; a window that has begun is not announced")
        if opens > now + FARTHEST:
            raise BadRequest(f"window_start: {start!r} is more than {FARTHEST.days} days away: is the year right?")
    return opens.timestamp(), opens.timestamp() + window.length(plan.window)


def announced_in(context: Any, release_from: str) -> Announced:
    return Announced.model_validate(context["ti"].xcom_pull(task_ids=release_from, key=ANNOUNCED_KEY))


class ReleaseToAnnounce(BaseOperator):
    """Finds out which release is announced: that of the form, or for a scheduled run the one that is due in the window
    which the schedule means. With nothing due the run ends at once, skipped.
    """

    def __init__(self, *, plan: Plan, opened_by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        run, now = context["dag_run"], clock.utc()
        scheduled = run.run_type == "scheduled"
        asked: Mapping[str, Any] = release_due(self.plan, later=True) if scheduled else dict(context["params"])
        try:
            release = release_of(self.plan, {"reason": "announcement", **asked}, None)
            opens, closes = announced_window(self.plan, None if scheduled else asked.get("window_start"), now)
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        if scheduled:
            opens, closes = self._meant(run.logical_date or now)
        announced = Announced(version=release.version, opens=opens, closes=closes)
        context["ti"].xcom_push(key=ANNOUNCED_KEY, value=announced.model_dump(mode="json"))
        return f"{announced.version} on {wording.when(self.plan, announced)}"

    def _meant(self, moment: datetime.datetime) -> tuple[float, float]:
        """A run that begins late still means the window that it was scheduled for."""
        assert self.plan.announcements is not None  # else there is no such DAG
        opens = window.announced(self.plan.window, moment, self.plan.announcements.week_before_seconds).timestamp()
        return opens, opens + window.length(self.plan.window)


class Moment(Step):
    """Waits, without a worker slot, until so many seconds before the window opens. If the release is not due any more
    by then, it says so, and what is behind it is skipped.
    """

    def __init__(self, *, before_seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before_seconds = before_seconds

    def execute(self, context: Context) -> Any:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        at = announced_in(context, self.opened_by).opens - self.before_seconds
        if (seconds := at - clock.epoch()) > 0:
            moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
            self.log.info("waiting until %s", moment)
            raise self.waiting(DateTimeTrigger(moment=moment), seconds)
        return self.resume(context, None)

    def resume(self, context: Context, event: Any) -> Any:
        from handover.people.channels import tell

        announced = announced_in(context, self.opened_by)
        if why := self._not_due(context, announced):
            tell(context, self.plan, wording.cancelled(self.plan, announced, why))
            raise skipped(f"{announced.version} is not announced any more: {why}")
        late = clock.epoch() - (announced.opens - self.before_seconds)
        return self.conclude(context, passed(self.task_id, f"{late:.0f} s after the moment"))

    def _not_due(self, context: Any, announced: Announced) -> str:
        """Nothing but the Variable can cancel a release; a run by hand is stopped by hand."""
        if context["dag_run"].run_type != "scheduled":
            return ""
        try:
            due = release_due(self.plan).get("version")
        except AirflowSkipException as nothing:
            return str(nothing)
        return "" if due == announced.version else f"{due} is due instead"

    def work(self, run: StepRun) -> Evidence:
        raise NotImplementedError("the moment comes by itself")


class TellOf(Step):
    """Tells people of the release, once; of one whose window has begun it leaves on record that nobody was told."""

    def __init__(self, *, message: Callable[[Plan, Announced], Message], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def work(self, run: StepRun) -> Evidence:
        from handover.people.channels import leave_untold, tell

        announced = announced_in(run.context, self.opened_by)
        message = self.message(self.plan, announced)
        if clock.epoch() >= announced.opens:
            why = "too late, the window has begun"
            leave_untold(run.context, self.plan, message, why)
            return passed(self.task_id, f"not told: {why}")
        undelivered = tell(run.context, self.plan, message)
        return passed(self.task_id, f"not delivered yet: {', '.join(undelivered)}" if undelivered else "delivered")


class AskToConfirm(HITLOperator):
    """Asks the plan's role what has to stand the day before. A "No", or no answer, is told and recorded, and stops
    nothing.
    """

    def __init__(
        self, *, plan: Plan, question: str, items: tuple[str, ...], opened_by: str = "release", **kwargs: Any,
    ) -> None:  # fmt: skip
        assert plan.announcements is not None  # else there is no such DAG
        role, seconds = plan.team[plan.announcements.role], plan.announcements.response_seconds
        super().__init__(
            subject=question,
            body="\n".join(f"- {item}" for item in items),
            options=[YES, NO],
            defaults=NO,
            assigned_users=[{"id": user, "name": role.title} for user in role.users],
            response_timeout=datetime.timedelta(seconds=seconds),
            **kwargs,
        )
        self.plan, self.question, self.opened_by, self.seconds = plan, question, opened_by, seconds
        self.role, self.items = role, items

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell

        announced = announced_in(context, self.opened_by)
        if clock.epoch() >= announced.opens:
            return self._decided(context, "not asked", "nobody", "too late, the window has begun")
        link = self.generate_link_to_ui_from_context(context=context)
        tell(context, self.plan, wording.asked_to_confirm(self.plan, announced, self.question, link, self.seconds))
        until = clock.epoch() + self.seconds
        self.body = details(f"{self.plan.title} {announced.version}", [self.role], until, NO, items=self.items)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        from handover.people.channels import tell

        answer = super().execute_complete(context, event)
        by = answer["responded_by_user"]
        choice = answer["chosen_options"][0] if by else "no answer"
        who = by["name"] if by else f"nobody within {self.seconds / 3600:.3g} h"
        if choice != YES:
            announced = announced_in(context, self.opened_by)
            said = wording.not_confirmed(self.plan, announced, self.question, f"{choice} by {who}")
            tell(context, self.plan, said)
        return self._decided(context, choice, who, "day before the deployment")

    def _decided(self, context: Context, choice: str, who: str, why: str) -> str:
        decision = Decision(at=clock.epoch(), question=self.question, choice=choice, who=who, why=why)
        leave(context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        self.log.info("%s: %s by %s", self.question, choice, who)
        return f"{choice} by {who}"
