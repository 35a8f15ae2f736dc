"""What holds a readiness run together: which release it is about, what its people say, and the verdict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Param, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination.serving import serving
from handover.evidence_seal import NotSealed, leave, left
from handover.foundation import believed
from handover.models.evidence import Evidence, Verdict, unknown
from handover.models.image_reference import ImageReference
from handover.models.readiness import Readiness, Subject
from handover.models.record import ANSWERS_KEY
from handover.people.details import details
from handover.people.question import RoleQuestion
from handover.readiness import asked
from handover.readiness.operators import SUBJECT_KEY, subject_from
from handover.workflows.deployment.opening import release_due
from handover.workflows.deployment.request import BadRequest, release_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from handover.models.deployment import Release
    from handover.plan.model import Plan
    from handover.readiness.checklist import Checklist, Line

SENT = "Send answers"
"""The one button of a question; what is said lies in its fields."""


class ReleaseToJudge(BaseOperator):
    """Finds out which release is judged: that of the form, or for a scheduled run the one that is due.

    What cannot be told (the registry or the cluster does not answer) stays empty, and the lines that need it say so.
    """

    def __init__(self, *, plan: Plan, opened_by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        scheduled = context["dag_run"].run_type == "scheduled"
        wanted = release_due(self.plan) if scheduled else dict(context["params"])
        try:
            release = release_of(self.plan, {"reason": "readiness", **wanted}, None)
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        subject = Subject(
            version=release.version, image=release.image, digest=self._digest(release), previous=self._previous()
        )
        leave(context["ti"], SUBJECT_KEY, subject.model_dump(mode="json"))
        return f"{subject.version} ({subject.digest or 'no digest'}), {subject.previous or 'nobody knows what'} serves"

    def _digest(self, release: Release) -> str:
        from handover.workload.registry import pinned

        try:
            return ImageReference.parse(pinned(self.plan, release.image)).digest
        except Exception as error:
            self.log.warning("the digest of %s is not known: %s", release.image, error)
            return ""

    def _previous(self) -> str:
        from handover.outside import outside

        async def ask() -> str:
            async with outside().kube(self.plan.cluster.connection, self.plan.cluster.namespace) as kube:
                router = outside().router(kube, self.plan.cluster, self.plan.cluster.service)
                return (await serving(kube, router, self.plan)).version

        try:
            return asyncio.run(ask())
        except Exception as error:
            self.log.warning("the version that serves is not known: %s", error)
            return ""


def form(lines: Sequence[Line]) -> dict[str, Param]:
    """The fields of a question: one for each line, and a comment."""
    fields = {
        line.id: Param(asked.NOT_KNOWN, enum=asked.ANSWERS, title=line.ask, description=line.line) for line in lines
    }
    title = "What should be known beside that"
    return {**fields, asked.COMMENT: Param(None, type=["null", "string"], maxLength=1000, title=title)}


class AskRole(RoleQuestion):
    """Asks one role everything that only it knows, on one form (see `form`). No answer is no pass."""

    def __init__(self, *, plan: Plan, role: str, lines: Sequence[Line], opened_by: str = "release", **kwargs: Any):
        super().__init__(
            plan=plan,
            role=role,
            seconds=plan.readiness.response_seconds,
            silence=asked.NOT_KNOWN,
            subject=f"Readiness: {plan.team[role].title}, please say what only you know",
            body="\n".join(f"- {line.ask}" for line in lines),
            options=[SENT],
            defaults=SENT,
            opened_by=opened_by,
            **kwargs,
        )
        self.role, self.lines = role, tuple(lines)

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell
        from handover.people.messages import readiness_asked

        subject = subject_from(context["ti"], self.opened_by)
        link, seconds = self.generate_link_to_ui_from_context(context=context), self.plan.readiness.response_seconds
        tell(context, self.plan, readiness_asked(self.plan, self.role, subject.version, len(self.lines), link, seconds))
        self.body = details(
            f"{self.plan.title} {subject.version}", self.plan.may_answer(self.role), self.until(), self.asked.silence,
            items=[line.ask for line in self.lines],
        )  # fmt: skip
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        by, may = answer["responded_by_user"], {user["id"] for user in self.assigned_users or ()}
        title = self.answered_as(by) if by else self.plan.team[self.role].title
        found = asked.verdicts(self.lines, title, may, answer, self.asked.seconds)
        leave(context["ti"], ANSWERS_KEY, {k: e.model_dump(mode="json") for k, e in found.items()})
        if against := [f"{name}: {e.verdict}: {e.reason}" for name, e in found.items() if not e.passed]:
            raise AirflowFailException("; ".join(against))
        return f"{title} confirmed {len(found)} lines"


class Conclude(BaseOperator):
    """The verdict: kept in the cluster for the gate, told in Slack, and a failed run unless it is a pass."""

    def __init__(
        self, *, plan: Plan, checklist: Checklist, tasks: Mapping[str, str], release_from: str = "release",
        opened_by: str = "", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, **kwargs)
        self.plan, self.checklist, self.tasks, self.release_from = plan, checklist, dict(tasks), release_from

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell
        from handover.people.messages import readiness_result

        ti = context["ti"]
        found = {leaf.id: self._evidence(ti, leaf) for leaf in self.checklist.leaves}
        result = self._result(context, subject_from(ti, self.release_from), found)
        for one in result.against:
            self.log.warning("%s: %s: %s (%s)", one.id, one.verdict, one.reason, one.owner)
        lost = self._kept(result)
        tell(context, self.plan, readiness_result(self.plan, result))
        if lost:
            raise AirflowFailException(f"the verdict {result.verdict} could not be kept for the gate: {lost}")
        if result.verdict is not Verdict.PASS:
            raise AirflowFailException(f"{result.version} is not ready: {len(result.against)} of {result.lines} lines")
        return f"{result.version} is ready"

    def _evidence(self, ti: Any, leaf: Line) -> Evidence | None:
        task = self.tasks[leaf.id]
        if not leaf.ask:
            return believed(ti, task)
        try:
            found = (left(ti, task, ANSWERS_KEY) or {}).get(leaf.id)
        except NotSealed as error:
            return unknown(leaf.id, str(error))
        return Evidence.model_validate(found) if found else None

    def _result(self, context: Context, subject: Subject, found: Mapping[str, Evidence | None]) -> Readiness:
        from handover.readiness.result import concluded

        return concluded(
            self.checklist, subject, found, run=context["run_id"], owner="lead", now=clock.epoch(),
            valid_seconds=self.plan.readiness.valid_seconds,
        )  # fmt: skip

    def _kept(self, result: Readiness) -> str:
        """Keeps the verdict; gives why it could not. People are told all the same."""
        from handover.outside import outside
        from handover.readiness.result import hand_over

        async def keep() -> None:
            async with outside().kube(self.plan.cluster.connection, self.plan.cluster.namespace) as kube:
                await hand_over(kube, self.plan.readiness_name, result)

        try:
            asyncio.run(keep())
        except Exception as error:
            self.log.exception("the verdict was not kept")
            return str(error)
        return ""
