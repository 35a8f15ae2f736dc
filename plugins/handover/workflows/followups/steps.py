"""The steps of the follow-ups: waiting for their time, asking, opening tickets, telling, and keeping the log."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.evidence_seal import leave
from handover.models.evidence import Evidence, passed, unknown
from handover.models.followup import ENDED_KEY, ENDED_TASK, Ended
from handover.models.record import DECISION_KEY
from handover.people import answers
from handover.people.details import details
from handover.people.messages import Message
from handover.ports.channel import NewTicket
from handover.step import Step, StepRun, skipped

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.followups import Followups
    from handover.plan.model import Plan


def followed(context: Any) -> Ended:
    """The deployment that this run is about. Raises `AirflowFailException` when its first task left none."""
    found = context["ti"].xcom_pull(task_ids=ENDED_TASK, key=ENDED_KEY)
    if found is None:
        raise AirflowFailException(f"task {ENDED_TASK} left no deployment: nobody knows what this run is about")
    return Ended.model_validate(found)


def times(plan: Plan) -> Followups:
    """The plan's section; without it there are no follow-ups."""
    assert plan.followups is not None
    return plan.followups


class FollowUp(Step):
    """A step after the deployment: its verdict is recorded and fails nothing, as there is nothing left to stop."""

    def conclude(self, context: Context, evidence: Evidence) -> str:
        self._leave(context, evidence)
        self.log.info("%s: %s: %s", evidence.check, evidence.verdict, evidence.reason)
        return evidence.reason


class DeploymentEnded(FollowUp):
    """Finds out which deployment has ended: from the asset's event, or by hand from the form and the ledger."""

    def execute(self, context: Context) -> Any:
        asked = context["params"].get("deployment")
        ended = self._of_ledger(asked) if asked else self._of_event(context)
        leave(context["ti"], ENDED_KEY, ended.model_dump(mode="json"))
        return f"{ended.version}: {ended.outcome}, {ended.incidents} incidents, {ended.deployment}"

    def work(self, run: StepRun) -> Evidence:
        raise NotImplementedError

    def _of_event(self, context: Any) -> Ended:
        events = [e for found in context["triggering_asset_events"].values() for e in found]
        if not events:
            raise AirflowFailException("no deployment has ended: give its run id as `deployment`")
        found = sorted((Ended.model_validate(event.extra) for event in events), key=lambda one: one.at)
        for older in found[:-1]:
            self.log.warning("also ended: %s; start a run by hand with it as `deployment`", older.deployment)
        return found[-1]

    def _of_ledger(self, deployment: str) -> Ended:
        from handover.record.ledger import NotRecorded, ledger

        try:
            record = ledger(self.plan.recorded.connection).read(deployment)
        except NotRecorded as error:
            raise AirflowFailException(str(error)) from None
        if not record.outcomes:
            raise AirflowFailException(f"the ledger knows no end of {deployment}: is it still running?")
        end, began = record.outcomes[-1], record.deployment
        return Ended(
            deployment=deployment, version=began.version, previous_version=began.previous_version,
            outcome=end.status, at=end.at, incidents=len({entry.incident for entry in record.incidents}),
            moved=not end.stopped,
        )  # fmt: skip


class Due(Step):
    """Waits, without a worker slot, until so many seconds after the deployment's end; passes at once when late."""

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Context) -> Any:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        due = datetime.datetime.fromtimestamp(followed(context).at + self.seconds, datetime.UTC)
        if due > clock.utc():
            self.log.info("waiting until %s", due)
            self.defer(trigger=DateTimeTrigger(moment=due), method_name="execute_complete")
        return self.execute_complete(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        return f"due {self.seconds:.0f} s after the deployment's end"

    def work(self, run: StepRun) -> Evidence:
        raise NotImplementedError


class Ask(HITLOperator):
    """Asks one role, with fields for what it has to say; nobody answering in time is "Not answered", never a yes.

    :param fields: free-text fields, name to title
    """

    def __init__(
        self, *, plan: Plan, role: str, question: str, fields: Mapping[str, str] | None = None,
        opened_by: str = ENDED_TASK, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.plan, self.role, self.question, self.opened_by = plan, role, question, opened_by
        self.fields = dict(fields or {"comment": "What should be known beside that:"})
        who = plan.team[role]
        kwargs["params"] = {  # Airflow has put the run's own in here
            name: Param(None, type=["null", "string"], maxLength=2000, title=text) for name, text in self.fields.items()
        }
        super().__init__(
            subject=question,
            options=[answers.YES, answers.NO, answers.NOT_ANSWERED],
            defaults=answers.NOT_ANSWERED,
            assigned_users=[{"id": user, "name": who.title} for user in who.users],
            response_timeout=datetime.timedelta(seconds=times(plan).response_seconds),
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell

        who, ended = self.plan.team[self.role], followed(context)
        link = self.generate_link_to_ui_from_context(context=context)
        text = f"{who.title} ({', '.join(who.users)}): {self.plan.title} {ended.version}: {self.question} {link}"
        tell(context, self.plan, Message(event="asked", title="Your answer is needed", slack=text))
        until = clock.epoch() + times(self.plan).response_seconds
        about = f"{self.plan.title} {ended.version}: {ended.deployment}, {ended.outcome}"
        self.body = details(about, [who], until, answers.NOT_ANSWERED)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        who = self.plan.team[self.role]
        said = answers.decision(self.question, who.title, who.users, self.fields, answer, clock.epoch())
        leave(context["ti"], DECISION_KEY, said.model_dump(mode="json"))
        return f"{said.choice} by {said.who}"


class Dated(FollowUp):
    """A follow-up with a date.

    :param purpose: what it is for, lower case with hyphens; with the deployment it names the ticket or the meeting
    :param seconds: when it is due, after the deployment's end; after a rollback ``rolled_back_seconds``, if given
    :param only_troubled: skipped unless there was an incident or a rollback
    """

    def __init__(
        self, *, purpose: str, summary: str, seconds: float, rolled_back_seconds: float | None = None,
        only_troubled: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.purpose, self.summary, self.only_troubled = purpose, summary, only_troubled
        self.seconds, self.rolled_back_seconds = seconds, rolled_back_seconds

    def due(self, ended: Ended) -> float:
        """Seconds since the epoch. Raises `AirflowSkipException` when there is nothing to do."""
        if self.only_troubled and not ended.troubled:
            raise skipped("no incident and no rollback: there is nothing to analyse")
        return ended.at + (self.rolled_back_seconds if ended.rolled_back and self.rolled_back_seconds else self.seconds)

    def title(self, ended: Ended) -> str:
        return f"{self.plan.title} {ended.version}: {self.summary}"


class Ticket(Dated):
    """Opens a ticket unless the one of this purpose and deployment exists (`handover.people.tickets`).

    A ticket system that is away is retried; in the end the failed task is recorded, and the others go on.
    """

    needs = "messages.ticket_connection"

    def work(self, run: StepRun) -> Evidence:
        from handover.people.tickets import label, open_once

        ended = followed(run.context)
        due = f"{datetime.datetime.fromtimestamp(self.due(ended), datetime.UTC):%Y-%m-%d}"
        wanted = NewTicket(
            label=label(self.plan, self.purpose, ended.deployment), kind=self.plan.messages.ticket_task_type,
            summary=self.title(ended), description=self._text(ended), due=due,
        )  # fmt: skip
        key, new = open_once(self.plan, wanted)
        return passed(self.task_id, f"ticket {key}, due {due}" if new else f"ticket {key} exists already")

    def _text(self, ended: Ended) -> str:
        """With the timeline of what happened, as far as the ledger can be asked."""
        from handover.record.ledger import ledger
        from handover.workflows.recording.report import link

        lines = [f"Deployment: {ended.deployment}", f"Outcome: {ended.outcome}"]
        lines.append(f"Report: {link(self.plan, ended.deployment)}")
        try:
            incidents = ledger(self.plan.recorded.connection).read(ended.deployment).incidents
        except Exception as error:  # the ticket matters more than its text
            self.log.warning("no timeline in the ticket: %s", error)
            incidents = ()
        moment = datetime.datetime.fromtimestamp
        lines += [f"{moment(e.at, datetime.UTC):%H:%M:%S} UTC {e.severity} {e.kind}: {e.text}" for e in incidents]
        return "\n".join(lines)


class Invite(Dated):
    """Mails an invitation to a meeting; a second one replaces the first in everybody's calendar."""

    def work(self, run: StepRun) -> Evidence:
        from handover.people.calendar import Meeting
        from handover.people.channels import invite
        from handover.people.tickets import label
        from handover.workflows.recording.report import link

        ended, asked = followed(run.context), times(self.plan)
        meeting = Meeting(
            uid=label(self.plan, self.purpose, ended.deployment), title=self.title(ended),
            text=f"Deployment: {ended.deployment} ({ended.outcome})\nReport: {link(self.plan, ended.deployment)}",
            start=self.due(ended), seconds=asked.meeting_seconds, to=asked.meeting_emails,
        )  # fmt: skip
        if undelivered := invite(run.context, self.plan, meeting):
            return unknown(self.task_id, f"not delivered yet: {', '.join(undelivered)}")
        return passed(self.task_id, f"{', '.join(meeting.to)} invited: {meeting.title}")


class Tell(FollowUp):
    """Tells people; passes whether or not the message got through."""

    def __init__(self, *, message: Callable[[Plan, Ended, str], Message], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def work(self, run: StepRun) -> Evidence:
        from handover.people.channels import tell
        from handover.workflows.recording.report import link

        ended = followed(run.context)
        undelivered = tell(run.context, self.plan, self.message(self.plan, ended, link(self.plan, ended.deployment)))
        return passed(self.task_id, f"not delivered: {', '.join(undelivered)}" if undelivered else "delivered")


class UpdateLog(FollowUp):
    """Plan "Log deployment metrics", "Update deployment log": the answers go to the ledger, and the deployment's report
    is made again with them.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.record import checklist, report, week
        from handover.record.ledger import ledger
        from handover.workflows.recording.report import store
        from handover.workflows.recording.tasks import complete_followups

        ended = followed(run.context)
        new = complete_followups(self.plan, ended.deployment, run.run_id)
        record = ledger(self.plan.recorded.connection).read(ended.deployment)
        store(
            self.plan, ended.deployment, report.build(self.plan, checklist.load(self.plan.recorded.checklist), record)
        )
        figures = week.figures(record)
        text = ", ".join(f"{m.what} {m.value:g}" for m in figures if m.value is not None)
        return passed(self.task_id, f"{text}; {new} entries were not in the ledger yet", *figures)
