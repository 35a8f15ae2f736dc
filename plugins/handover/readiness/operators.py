"""The task of one line of the checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
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
    found = run.context["ti"].xcom_pull(task_ids=run.opened_by, key=SUBJECT_KEY)
    if found is None:
        raise AirflowFailException(f"task {run.opened_by} left no release to judge")
    return Subject.model_validate(found)
