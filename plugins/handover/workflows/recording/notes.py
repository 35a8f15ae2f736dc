"""The note of a run: what somebody reads in the list of runs, without opening a task. The last word stands there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import Evidence, Verdict
from handover.models.record import DECISION_KEY, Decision
from handover.models.redaction import redacted
from handover.people.operators import PROCEED
from handover.step import FENCING_KEY, RELEASE_KEY
from handover.workflows.rollback.start import OPEN_TASK, airflow_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from handover.plan.model import Plan

log = logging.getLogger(__name__)
MAX = 1000
"""Characters that Airflow takes."""
SAID_BY = frozenset(
    {"ReleaseDue", "SecondPerson", "Open", "WindowOpen", "SwitchTraffic", "Decide", "MoveTrafficBack", "Close"}
)
"""Operators after which a deployment or rollback stands somewhere else than before."""
RELEASE_DUE = "release_due"


def note_run(ti: Any, plan: Plan, error: object = None) -> None:
    """After a task has ended, in its own process. Logs instead of raising: a run is as good without a note."""
    try:
        if ti.dag_id not in (plan.deployment_dag_id, plan.rollback_dag_id):
            return
        text = said(type(ti.task).__name__, lambda key: ti.xcom_pull(task_ids=ti.task_id, key=key), error)
        if not text:
            return
        airflow, note = airflow_of(plan), redacted(_of_version(ti, text))
        airflow.note_run(ti.dag_id, ti.run_id, note[:MAX])
        if about := _rolled_back(ti, plan):
            airflow.note_run(plan.deployment_dag_id, about, f"{note} ({plan.rollback_dag_id}: {ti.run_id})"[:MAX])
    except Exception as problem:
        log.warning("the run has no note: %s: %s", type(problem).__name__, problem)


def said(operator: str, left: Callable[[str], Any], error: object = None) -> str:
    """What a task of this kind has to say; "" when it has nothing.

    :param left: the XCom of the task with this key, or None
    :param error: why it failed
    """
    if operator not in SAID_BY:
        return ""
    if error is not None:
        return f"refused: {error}" if operator in ("ReleaseDue", "SecondPerson", "Open") else str(error)
    if raw := left(EVIDENCE_KEY):
        evidence = Evidence.model_validate(raw)
        return evidence.reason if evidence.verdict is Verdict.PASS else f"{evidence.check}: {evidence.reason}"
    if operator != "Decide" or (raw := left(DECISION_KEY)) is None:
        return ""
    decision = Decision.model_validate(raw)
    why = "" if decision.choice == PROCEED else f": {decision.why}"
    return f"{decision.question}: {decision.choice}{why}"


def _of_version(ti: Any, text: str) -> str:
    release = ti.xcom_pull(task_ids=OPEN_TASK, key=RELEASE_KEY) or ti.xcom_pull(task_ids=RELEASE_DUE, key=RELEASE_KEY)
    version = str((release or {}).get("version", ""))
    return text if not version or text.startswith(version) else f"{version}: {text}"


def _rolled_back(ti: Any, plan: Plan) -> str:
    """The deployment that a rollback is of."""
    if ti.dag_id != plan.rollback_dag_id:
        return ""
    token = ti.xcom_pull(task_ids=ti.task.opened_by, key=FENCING_KEY)
    return str(token["deployment"]) if token else ""
