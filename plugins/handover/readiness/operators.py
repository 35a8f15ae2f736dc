"""The task of one line of the checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.evidence_seal import NotSealed, left
from handover.models.evidence import Evidence, combined
from handover.models.readiness import Subject
from handover.readiness.check import Scope, judged
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.readiness.checklist import Line

SUBJECT_KEY = "subject"
"""XCom key of the `Subject`, left by the DAG's first task."""


class CheckLine(Step):
    """Asks the sources of one line; its verdict never stops another line's task."""

    def __init__(self, *, line: Line, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.line = line

    def work(self, run: StepRun) -> Evidence:
        scope = Scope(self.plan, subject_of(run), clock.epoch())
        return line_verdict(self.line, scope)


def line_verdict(line: Line, scope: Scope) -> Evidence:
    """The worst verdict of the line's checks."""
    return combined(line.id, [judged(one, scope) for one in line.checks])


def subject_of(run: StepRun) -> Subject:
    return subject_from(run.context["ti"], run.opened_by)


def subject_from(ti: Any, task: str) -> Subject:
    """What is judged, as that task has left it. Raises `AirflowFailException` for what it has not left itself."""
    try:
        found = left(ti, task, SUBJECT_KEY)
    except NotSealed as error:
        raise AirflowFailException(str(error)) from None
    if found is None:
        raise AirflowFailException(f"task {task} left no release to judge")
    return Subject.model_validate(found)
