"""The report of a deployment lies where everybody links to, whichever run tells the end of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from moto import mock_aws

from handover.evidence_seal import leave
from handover.models.deployment import Status
from handover.models.followup import ENDED_KEY, Ended
from handover.outside import Outside, standing_in
from handover.people.tickets import POST_MORTEM
from handover.ports.airflow import run_path
from handover.step import FENCING_KEY
from handover.workflows.followups.steps import Invite, Ticket
from handover.workflows.recording.report import Report, Shelf, shelf_of
from tests.record import made
from tests.record.conftest import book, connected, empty, plan, server  # noqa: F401 - fixtures
from tests.support.steps import Opening
from tests.twins.airflow import TwinAirflow
from tests.twins.channels import TwinChannels

TOKEN = {"deployment": made.RUN, "generation": 2, "stable": "blue", "preview": "green"}
ENDED = Ended(
    deployment=made.RUN, version="v1.1.0", previous_version="v1.0.0", outcome=Status.ROLLED_BACK, at=0.0
)  # fmt: skip


class RunTi:
    """What the first task of the run has left."""

    task_id, dag_id, try_number, max_tries, task = "report", "pms_rollback", 1, 0, None

    def __init__(self) -> None:
        first = Opening(self.dag_id, "move_traffic_back")
        leave(first, FENCING_KEY, TOKEN)
        self.left: dict[tuple[str, str], Any] = {(first.task_id, key): value for key, value in first.pushed.items()}
        self.left["deployment_ended", ENDED_KEY] = ENDED.model_dump(mode="json")

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get((task_ids, key))


@pytest.fixture
def bucket(monkeypatch, plan):  # noqa: F811
    """That of the reports; gives what lies there."""
    connection = {"conn_type": "aws", "login": "k", "password": "s", "extra": {"region_name": "us-east-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_AWS", json.dumps(connection))
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
        s3.create_bucket(Bucket=plan.recorded.bucket)
        yield lambda: {one["Key"] for one in s3.list_objects_v2(Bucket=plan.recorded.bucket)["Contents"]}


@pytest.mark.parametrize("run_id", [f"rollback__{made.RUN}", "manual__by_hand"])
def test_the_report_of_a_rollback_is_where_tickets_and_invitations_say(connected, plan, bucket, run_id):  # noqa: F811
    connected.ledger.write([made.deployment(), made.outcome(Status.ROLLED_BACK)])
    people, airflow = TwinChannels(), TwinAirflow()
    for dag, run in ((plan.deployment_dag_id, made.RUN), (plan.rollback_dag_id, run_id)):
        path = f"{run_path(dag, run)}/taskInstances"
        airflow.answers |= {path: {"task_instances": []}, f"{path}/~/xcomEntries": {"xcom_entries": []}}
    context = {"ti": RunTi(), "run_id": run_id, "params": {}}
    with standing_in(people.outside(Outside(airflow=lambda _: airflow))):
        Report(task_id="report", plan=plan, opened_by="move_traffic_back").execute(context)
        due = {"plan": plan, "seconds": 1.0}
        Ticket(task_id="post_mortem", purpose=POST_MORTEM, summary="post-mortem", **due).execute(context)
        Invite(task_id="meeting", purpose="meeting", summary="post-mortem", **due).execute(context)
    key = f"{plan.recorded.prefix}{made.RUN}"
    assert bucket() == {f"{key}.html", f"{key}.md"}
    ((_, (_, ticket)),) = people.opened.items()
    said = next(letter.text for letter in people.posted if letter.kind == "slack")
    assert "(asks for a sign-in)" in said and "X-Amz-Signature" not in said
    texts = [ticket.description, *(letter.text for letter in people.posted)]
    assert len(texts) == 3
    assert all(f"{key}.html" in unquote(text) for text in texts)


def test_reports_lie_in_a_bucket_of_their_own_or_below_the_backups_or_nowhere(plan):  # noqa: F811
    backups, record = plan.backups, plan.recorded
    assert plan.recorded.bucket != backups.bucket
    assert shelf_of(plan) == Shelf(backups.connection, record.bucket, record.prefix)

    def changed(backup=backups, **changes):
        return plan.model_copy(update={"record": record.model_copy(update=changes), "backup": backup})

    assert shelf_of(changed(bucket_connection="other")) == Shelf("other", record.bucket, record.prefix)
    below = Shelf(backups.connection, backups.bucket, f"{backups.prefix}{record.prefix}")
    assert shelf_of(changed(bucket=None)) == below
    assert shelf_of(changed(None, bucket_connection="other")) == Shelf("other", record.bucket, record.prefix)
    assert shelf_of(changed(None, bucket=None)) is None
