"""Which deployment a follow-up run is about: the one that the event names, or the one on the form."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from handover.models.deployment import Status
from handover.models.followup import ENDED_KEY, Ended
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.deployment.closing import PublishEnd, ended_asset
from handover.workflows.followups.steps import DeploymentEnded, Due, Ticket

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
FAR = 32_503_680_000.0  # the year 3000


class Ti:
    def __init__(self, ended: Ended | None = None) -> None:
        self.left: dict[str, Any] = {ENDED_KEY: ended.model_dump(mode="json")} if ended else {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(key)


def ended(at: float = 1000.0, outcome: Status = Status.SUCCEEDED, incidents: int = 0) -> Ended:
    return Ended(
        deployment=f"run {at:.0f}", version="v1.1.0", previous_version="v1.0.0", outcome=outcome, at=at,
        incidents=incidents,
    )  # fmt: skip


def context(*ends: Ended, of: Ended | None = None) -> Any:
    events = {"asset": [SimpleNamespace(extra=one.model_dump(mode="json")) for one in ends]} if ends else {}
    return {"ti": Ti(of), "params": {"deployment": None}, "triggering_asset_events": events, "run_id": "r"}


def test_the_event_tells_all():
    told = context(ended())
    DeploymentEnded(task_id="deployment_ended", plan=PLAN).execute(told)
    assert Ended.model_validate(told["ti"].left[ENDED_KEY]) == ended()


def test_of_two_ends_at_once_it_is_the_later_one():
    told = context(ended(2000.0), ended(1000.0))
    DeploymentEnded(task_id="deployment_ended", plan=PLAN).execute(told)
    assert told["ti"].left[ENDED_KEY]["deployment"] == "run 2000"


def test_a_run_by_hand_without_a_deployment_says_what_to_give():
    with pytest.raises(AirflowFailException, match="give its run id as `deployment`"):
        DeploymentEnded(task_id="deployment_ended", plan=PLAN).execute(context())


@pytest.mark.plan("Analysis of any issues encountered")
@pytest.mark.parametrize(
    ("outcome", "incidents", "troubled"),
    [(Status.SUCCEEDED, 0, False), (Status.SUCCEEDED, 1, True), (Status.ROLLED_BACK, 0, True)],
)
def test_only_an_incident_or_a_rollback_is_trouble(outcome, incidents, troubled):
    assert ended(outcome=outcome, incidents=incidents).troubled is troubled


def test_what_was_stopped_before_anything_moved_is_none():
    assert not ended(outcome=Status.ROLLED_BACK).model_copy(update={"moved": False}).troubled


@pytest.mark.plan("Monitor for 2-4 more hours (skeleton crew)")
def test_what_is_due_later_gives_its_slot_back_and_what_is_late_goes_on():
    due = Due(task_id="due", plan=PLAN, seconds=5)
    assert due.execute(context(of=ended(1000.0))) == "due 5 s after the deployment's end"
    with pytest.raises(TaskDeferred) as waiting:
        due.execute(context(of=ended(FAR)))
    assert waiting.value.trigger.moment.timestamp() == FAR + 5


def test_without_trouble_no_ticket_is_opened():
    ticket = Ticket(task_id="t", plan=PLAN, purpose="analysis", summary="s", seconds=5, only_troubled=True)
    with pytest.raises(AirflowSkipException, match="nothing to analyse"):
        ticket.execute(context(of=ended()))


def test_a_step_without_a_deployment_says_so():
    with pytest.raises(AirflowFailException, match="nobody knows what this run is about"):
        Due(task_id="due", plan=PLAN, seconds=5).execute(context())


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.ROLLED_BACK])
def test_the_end_says_how_it_ended_and_the_next_run_understands_it(status):
    asset, events = ended_asset(PLAN), OutletEventAccessors()
    left = ended(at=9.0, outcome=status)
    publish = PublishEnd(task_id="publish_end", plan=PLAN, ended_from="close", outlets=[asset])
    publish.execute({"outlet_events": events, "ti": Ti(left)})
    found = Ended.model_validate(events[asset].extra)
    assert found == left
