"""The question to a second person, before the lock is taken: does a release go out in spite of what is against it?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.evidence_seal import NotSealed, leave, left
from handover.foundation import EVIDENCE_KEY
from handover.models import markup
from handover.models.deployment import Release
from handover.models.evidence import Evidence, failed, passed
from handover.models.record import DECISION_KEY, Decision
from handover.outside import outside
from handover.people.details import details
from handover.people.question import RoleQuestion, assigned
from handover.step import RELEASE_KEY
from handover.workflows.deployment.gate import readiness_gate
from handover.workflows.deployment.overrides import (
    AGREED_KEY,
    Overridden,
    nobody_else,
    overridden,
    told,
    with_others,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan

AGREE, REFUSE = "Agree", "Refuse"
ASKED_KEY = "overridden"
"""XCom key of what is asked about, as `Overridden`."""


class SecondPerson(RoleQuestion):
    """Asks the plan's role, but never who has started the run, about each override that takes two people
    (``overrides``); without one it passes at once. "Refuse", or nobody in time, ends the run: nothing was touched.
    """

    def __init__(self, *, plan: Plan, release_from: str, **kwargs: Any) -> None:
        rules = plan.overrides
        super().__init__(
            plan=plan, role=rules.role, seconds=rules.response_seconds, silence=REFUSE,
            subject="Overridden: does a second person agree?", options=[AGREE, REFUSE], **kwargs,
        )  # fmt: skip
        self.release_from = release_from

    def asking(self, context: Context) -> Plan:
        return with_others(self.plan, context["dag_run"])

    def execute(self, context: Context) -> Any:
        from handover.people.channels import tell
        from handover.people.messages import overrides_asked

        release = Release.model_validate(self._left(context, self.release_from, RELEASE_KEY))
        found = asyncio.run(self._overridden(release))
        if not found.what:
            return self._conclude(context, passed(self.task_id, "nothing is overridden that takes a second person"))
        if problem := nobody_else(self.plan, context["dag_run"]):
            return self._conclude(context, failed(self.task_id, f"overridden: {told(found.what)}: {problem}"))
        leave(context["ti"], ASKED_KEY, found.model_dump(mode="json"))
        others = self.asking(context)
        self.assigned_users = assigned(others, self.asked.role)
        self.body = self._details(context, release, found, others)
        link = self.generate_link_to_ui_from_context(context=context)
        tell(context, self.plan, overrides_asked(others, self.asked, link, release.version, found.what))
        return super().execute(context)

    async def _overridden(self, release: Release) -> Overridden:
        """Of the image that the gate would let out. Raises `AirflowFailException` for what no override can help."""
        if not (release.window_override or release.readiness_override_reason):
            return Overridden(image=release.image, what={})
        cluster = self.plan.cluster
        async with outside().kube(cluster.connection, cluster.namespace) as kube:
            release, gate = await readiness_gate(kube, self.plan, release)
        return overridden(self.plan, release, gate.overridden, clock.utc())

    def _details(self, context: Context, release: Release, found: Overridden, others: Plan) -> str:
        starter = getattr(context["dag_run"], "triggering_user_name", None) or "schedule"
        window, readiness = release.window_override_reason, release.readiness_override_reason
        because = {"window": window, "freeze": window, "readiness": readiness}
        known = [markup.markdown(f"{kind}: {why}. {starter} says: {because[kind]}") for kind, why in found.what.items()]
        return details(
            f"{self.plan.title} {release.version} ({found.image}), asked for by {markup.markdown(starter)}: "
            f"{markup.markdown(release.reason)}",
            others.may_answer(self.asked.role), self.until(), self.asked.silence, known=known,
            means={AGREE: "it goes on, in spite of what is below.", REFUSE: "this run ends; nothing was touched."},
        )  # fmt: skip

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        found = Overridden.model_validate(self._left(context, self.task_id, ASKED_KEY))
        by, choice = answer["responded_by_user"], ", ".join(answer["chosen_options"])
        who = by["name"] if by else f"nobody (no answer in {self.asked.seconds:.0f} s)"
        why, may = told(found.what), {user["id"] for user in assigned(self.asking(context), self.asked.role)}
        if by and who not in may:
            choice, why = REFUSE, f"answered by {who}, who may not: {why}"
        decision = Decision(at=clock.epoch(), question=self.subject, choice=choice, who=who, why=why)
        leave(context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        agreed = choice == AGREE
        if agreed:
            leave(context["ti"], AGREED_KEY, found.model_dump(mode="json"))
        conclude = passed if agreed else failed
        return self._conclude(context, conclude(self.task_id, f"{choice} by {who}: {why}"))

    def _left(self, context: Context, task: str, key: str) -> Any:
        try:
            found = left(context["ti"], task, key)
        except NotSealed as error:
            raise AirflowFailException(f"nothing was touched: {error}") from None
        if found is None:
            raise AirflowFailException(f"nothing was touched: {task} left no {key}")
        return found

    def _conclude(self, context: Context, evidence: Evidence) -> str:
        leave(context["ti"], EVIDENCE_KEY, evidence.model_dump(mode="json"))
        if not evidence.passed:
            raise AirflowFailException(f"nothing was touched: {evidence.reason}")
        self.log.info("%s", evidence.reason)
        return evidence.reason
