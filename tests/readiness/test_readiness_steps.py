"""Which release is judged, what happens to the verdict, and what a role's answer becomes."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.models.evidence import Verdict, passed
from handover.models.readiness import Subject
from handover.readiness import asked
from handover.readiness.checklist import load
from handover.workflows.readiness.steps import AskRole, Conclude, ReleaseToJudge, form
from tests.support.cluster import REPOSITORY, digest
from tests.support.steps import left_by
from tests.support.web import Answer, serving

SUBJECT = Subject(version="v1.1.0", image="i", digest=digest("v1.1.0"), previous="v1.0.0")


class Ti:
    def __init__(self, found=None):
        self.found, self.pushed = found or {}, {}

    def xcom_pull(self, task_ids, key):
        return self.found.get((task_ids, key))

    def xcom_push(self, key, value):
        self.pushed[key] = json.loads(json.dumps(value))


def run_of(ti, **params):
    return {"ti": ti, "run_id": "run", "dag_run": SimpleNamespace(run_type="manual"), "params": params}


@pytest.fixture
def slack(monkeypatch):
    with serving(lambda asked_for: Answer(200, {"ok": True})) as web:
        connection = {"conn_type": "slack", "password": "x", "extra": {"base_url": f"{web.url}/"}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SLACK", json.dumps(connection))
        yield web


def test_what_nobody_can_tell_of_the_release_stays_empty(plan, twin, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PMS_REGISTRY", json.dumps({"conn_type": "http", "host": "http://127.0.0.1:1"}))
    ti = Ti()
    ReleaseToJudge(task_id="release", plan=plan).execute(run_of(ti, version="v1.1.0"))
    assert ti.pushed["subject"] == {
        "version": "v1.1.0", "image": f"{REPOSITORY}:v1.1.0", "digest": "", "previous": "",
    }  # fmt: skip


def test_a_bad_request_is_refused(plan, twin):
    with pytest.raises(AirflowFailException, match="only repository that this plan trusts"):
        ReleaseToJudge(task_id="release", plan=plan).execute(
            run_of(Ti(), version="v1.1.0", image="evil.example.com/x:1")
        )


def conclude(plan, **changed):
    """The last task, after every line passed but those that are given."""
    checklist = load(plan)
    tasks = {leaf.id: leaf.id for leaf in checklist.leaves}
    found = left_by("release", "subject", SUBJECT.model_dump(mode="json"))
    for leaf in checklist.leaves:
        evidence = passed(leaf.id, "fine").model_dump(mode="json")
        found |= left_by(leaf.id, *(("answers", {leaf.id: evidence}) if leaf.ask else ("evidence", evidence)))
    return Conclude(task_id="conclude", plan=plan, checklist=checklist, tasks=tasks), Ti(found | changed)


def kept(in_cluster, plan):
    from handover.readiness import result

    return in_cluster(lambda kube: result.read(kube, plan.readiness_name))


def test_a_pass_is_kept_and_told(in_cluster, plan, slack):
    task, ti = conclude(plan)
    assert task.execute(run_of(ti)) == "v1.1.0 is ready"
    found = kept(in_cluster, plan)
    assert (found.verdict, found.version, found.digest) == (Verdict.PASS, "v1.1.0", SUBJECT.digest)
    assert "is ready" in slack.asked[0].body["text"]


@pytest.mark.parametrize(("task_id", "key"), [("lint", "evidence"), ("cdn_cache", "answers")])
def test_what_somebody_wrote_in_the_name_of_a_line_is_against_it(in_cluster, plan, slack, task_id, key):
    task, ti = conclude(plan)
    ti.found[task_id, f"{key}_seal"] = "0" * 64
    with pytest.raises(AirflowFailException, match="1 of 58 lines"):
        task.execute(run_of(ti))
    (against,) = kept(in_cluster, plan).against
    assert (against.id, against.verdict) == (task_id, Verdict.UNKNOWN)
    assert f"{key} of {task_id} was not made by its step" in against.reason


def test_a_task_without_evidence_is_against_it(in_cluster, plan, slack):
    task, ti = conclude(plan)
    del ti.found["lint", "evidence"]
    with pytest.raises(AirflowFailException, match="1 of 58 lines"):
        task.execute(run_of(ti))
    assert [one.id for one in kept(in_cluster, plan).against] == ["lint"]
    assert "its task left no evidence" in slack.asked[0].body["text"]


def test_a_verdict_that_cannot_be_kept_is_told_and_fails(plan, slack, twin):
    task, ti = conclude(plan)
    twin.denied.add("configmaps")
    with pytest.raises(AirflowFailException, match="could not be kept"):
        task.execute(run_of(ti))
    assert slack.asked


@pytest.mark.plan(
    "Security tests: Penetration testing completed",
    "CDN cache cleared (or configured)",
    "Email templates tested",
    "SMS templates tested (if applicable)",
    "Error message configurations reviewed",
    "Disaster recovery plan: Reviewed and approved",
    "Stakeholders: Notified of deployment plan",
    "Customer communication: Planned (if applicable)",
)
@pytest.mark.parametrize(
    ("by", "said", "verdict"),
    [
        ({"id": "5", "name": "devops"}, asked.YES, Verdict.PASS),
        ({"id": "5", "name": "devops"}, asked.NO, Verdict.FAIL),
        ({"id": "7", "name": "lead"}, asked.YES, Verdict.PASS),
        ({"id": "8", "name": "qa"}, asked.YES, Verdict.UNKNOWN),
        (None, asked.YES, Verdict.UNKNOWN),
    ],
)
def test_an_answer_becomes_evidence_of_each_line(plan, by, said, verdict):

    lines = load(plan).asked()["devops"]
    task = AskRole(task_id="devops", plan=plan, role="devops", lines=lines, params=form(lines))
    said_of = {line.id: said for line in lines} | {asked.COMMENT: ""}
    event = {
        "chosen_options": ["Send answers"], "params_input": said_of, "responded_by_user": by,
        "responded_at": datetime.datetime.now(datetime.UTC),
    }  # fmt: skip
    ti = Ti()
    if verdict is Verdict.PASS:
        task.execute_complete(run_of(ti), event)
    else:
        with pytest.raises(AirflowFailException, match=f"cdn_cache: {verdict}"):
            task.execute_complete(run_of(ti), event)
    assert ti.pushed["answers"]["cdn_cache"]["verdict"] == verdict
