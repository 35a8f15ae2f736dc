"""<plan>_readiness: is a release ready? The plan's pre-deployment checklist, section by section, 48 hours before.

One Airflow DAG per plan, with a task for each line of its checklist. It changes nothing in production.
"""

from __future__ import annotations

from handover.plan.model import Plan
from handover.readiness.checklist import Checklist
from handover.workflows.dags import remind_of_questions
from handover.workflows.readiness.dag import for_each_checklist, in_order, questions, readiness_dag, section
from handover.workflows.readiness.steps import Conclude, ReleaseToJudge


def build(plan: Plan, checklist: Checklist) -> None:
    with readiness_dag(plan) as dag:
        release = ReleaseToJudge(task_id="release")
        checks = {line: task for part in checklist.sections for line, task in section(plan, part).items()}
        tasks = {**checks, **questions(plan, checklist)}
        names = {line: task.task_id for line, task in tasks.items()}
        conclude = Conclude(task_id="conclude", checklist=checklist, tasks=names)

        in_order(checklist, checks)
        release >> list(tasks.values()) >> conclude
        release >> conclude
        remind_of_questions(plan, dag)


for_each_checklist(build)
