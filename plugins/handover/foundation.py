"""What a step of a deployment rests on: it begins only when the steps right before it have left a pass of their own.

Airflow goes on behind any task that is successful, also behind one that somebody marked so. The branch behind a phase
would notice, but by then the steps between have changed production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover.evidence_seal import NotSealed, left
from handover.models.evidence import Evidence, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context

EVIDENCE_KEY = "evidence"
"""XCom key under which every step leaves its `Evidence`, passed or not; the branches read it."""
BRANCH_KEY = "branch"
"""Where a branch leaves what it decided, as an `Evidence`: a pass when it proceeds."""


class Founded:
    """Mixed in to whatever a phase has: Airflow calls `pre_execute` before it begins, and before it goes on.

    ``rests_on``: ids of the tasks right before it, as the DAG's builder sets them; none where nothing is asked for.
    """

    rests_on: Sequence[str] = ()

    def pre_execute(self, context: Context) -> None:
        """Raises `AirflowFailException` for good: what is missing does not come by trying again."""
        if missing := unfounded(context["ti"], self.rests_on):
            raise AirflowFailException(f"nothing was done: {'; '.join(missing)}")


def unfounded(ti: Any, tasks: Iterable[str]) -> list[str]:
    """Why these tasks are no ground to go on, each in words; nothing when every one has left a pass."""
    return [why for task in tasks if (why := _against(ti, task))]


def sealed_evidence(ti: Any, task: str, key: str = EVIDENCE_KEY) -> Evidence | None:
    """What a task of this run has left, None for nothing. Raises `NotSealed` for what it has not made itself."""
    found = left(ti, task, key)
    return Evidence.model_validate(found) if found else None


def believed(ti: Any, task: str) -> Evidence | None:
    """The same for who shows or judges it: what somebody else wrote in a step's name is unknown, and says so."""
    try:
        return sealed_evidence(ti, task)
    except NotSealed as error:
        return unknown(task, str(error))


def _against(ti: Any, task: str) -> str:
    try:
        found = sealed_evidence(ti, task) or sealed_evidence(ti, task, BRANCH_KEY)
    except NotSealed as error:
        return str(error)
    if found is None:
        return f"{task} left no evidence: it was marked by hand, or never ran"
    return "" if found.passed else f"{task}: {found.verdict}: {found.reason}"
