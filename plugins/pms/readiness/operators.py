"""The task of one line of the checklist."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from pms.models.evidence import Evidence, combined
from pms.models.readiness import Subject
from pms.readiness.check import Scope, judged
from pms.step import Job, Step

if TYPE_CHECKING:
    from pms.readiness.checklist import Line

SUBJECT_KEY = "subject"
"""XCom key of the `Subject`, left by the DAG's first task."""


class CheckLine(Step):
    """Asks the sources of one line; its verdict never stops another line's task."""

    def __init__(self, *, line: Line, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.line = line

    def work(self, job: Job) -> Evidence:
        scope = Scope(self.plan, subject_of(job), time.time())
        return line_verdict(self.line, scope)


def line_verdict(line: Line, scope: Scope) -> Evidence:
    """The worst verdict of the line's checks."""
    return combined(line.id, [judged(one, scope) for one in line.checks])


def subject_of(job: Job) -> Subject:
    found = job.context["ti"].xcom_pull(task_ids=job.ticket_from, key=SUBJECT_KEY)
    if found is None:
        raise AirflowFailException(f"task {job.ticket_from} left no release to judge")
    return Subject.model_validate(found)
