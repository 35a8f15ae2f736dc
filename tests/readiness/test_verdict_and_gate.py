"""The verdict on a release, where it is kept, and the gate that reads it."""

from __future__ import annotations

import json
import time

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.evidence_seal import leave
from handover.models.evidence import Verdict, failed, passed, unknown
from handover.models.readiness import Readiness, Subject
from handover.people import messages
from handover.plan.image import ImageJob
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.readiness import asked, result
from handover.readiness.checklist import load
from handover.readiness.operators import SUBJECT_KEY, CheckLine
from handover.workflows.deployment.gate import readiness_gate
from tests.support.cluster import REPOSITORY, digest
from tests.support.steps import Opening, release
from tests.support.web import Answer, serving

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
CHECKLIST = load(PLAN)
SUBJECT = Subject(version="v1.1.0", image="i", digest=digest("v1.1.0"))
ALL = {leaf.id: passed(leaf.id, "fine") for leaf in CHECKLIST.leaves}


def concluded(found, subject=SUBJECT):
    return result.concluded(CHECKLIST, subject, found, run="run", owner="lead", now=1000.0, valid_seconds=100)


# --- the verdict


def test_every_line_must_pass():
    found = concluded(ALL)
    assert (found.verdict, found.against, found.lines, found.expires) == (Verdict.PASS, (), 58, 1100.0)


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [(failed("lint", "no"), Verdict.FAIL), (unknown("lint", "?"), Verdict.UNKNOWN), (None, Verdict.UNKNOWN)],
)
def test_one_line_that_is_not_a_pass_is_against_it(evidence, verdict):
    found = concluded({**ALL, "lint": evidence})
    assert (found.verdict, [one.id for one in found.against]) == (verdict, ["lint"])
    assert found.against[0].owner == "frontend"


def test_a_line_that_was_forgotten_is_unknown():
    assert concluded({}).verdict is Verdict.UNKNOWN
    assert len(concluded({}).against) == 58


def test_a_failure_outweighs_what_is_unknown():
    assert concluded({**ALL, "lint": unknown("lint", "?"), "types": failed("types", "no")}).verdict is Verdict.FAIL


def test_without_a_digest_there_is_no_pass():
    found = concluded(ALL, SUBJECT.model_copy(update={"digest": ""}))
    assert (found.verdict, [one.owner for one in found.against]) == (Verdict.UNKNOWN, ["lead"])


def test_the_message_has_a_table_of_who_must_act():
    text = messages.readiness_result(PLAN, concluded({**ALL, "lint": failed("lint", "3 errors")})).slack
    assert "v1.1.0 is NOT ready: 1 of 58" in text
    assert "fail    Frontend Engineer   All lint rules passing" in text and "3 errors" in text
    assert "is ready: all 58 lines" in messages.readiness_result(PLAN, concluded(ALL)).slack
    assert len(messages.readiness_result(PLAN, concluded({})).slack) < 3000


# --- people

LINES = CHECKLIST.asked()["lead"]
LEAD = {"id": "7", "name": "lead"}


def answered(by=LEAD, **said):
    fields = {line.id: asked.YES for line in LINES} | said
    return asked.verdicts(LINES, "Deployment Lead", ("lead",), {"params_input": fields, "responded_by_user": by}, 3600)


def test_a_yes_to_each_line_passes():
    found = answered(comment="  seen today ")
    assert {one.verdict for one in found.values()} == {Verdict.PASS}
    assert found["disaster_recovery"].reason == "confirmed by lead (Deployment Lead): seen today"


@pytest.mark.parametrize("said", [asked.NOT_KNOWN, "", None, "YES", 1])
def test_anything_else_than_yes_and_no_is_unknown(said):
    assert answered(disaster_recovery=said)["disaster_recovery"].verdict is Verdict.UNKNOWN


def test_a_no_fails_and_nobody_or_somebody_else_is_unknown():
    assert answered(disaster_recovery=asked.NO)["disaster_recovery"].verdict is Verdict.FAIL
    nobody = answered(by=None)
    assert {one.verdict for one in nobody.values()} == {Verdict.UNKNOWN}
    assert "did not answer within 1 h" in nobody["disaster_recovery"].reason
    stranger = answered(by={"id": "8", "name": "qa"})
    assert {one.verdict for one in stranger.values()} == {Verdict.UNKNOWN}
    assert "qa, who is not Deployment Lead" in stranger["disaster_recovery"].reason


def test_a_form_that_was_sent_without_fields_passes_nothing():
    found = asked.verdicts(LINES, "L", ("lead",), {"params_input": {}, "responded_by_user": LEAD}, 60)
    assert {one.verdict for one in found.values()} == {Verdict.UNKNOWN}


# --- the gate


@pytest.fixture
def registry(monkeypatch):
    """Knows the tag v1.1.0, by the digest of the tests' images."""

    def answer(asked_for):
        known = {"v1.1.0": digest("v1.1.0"), digest("v1.1.0"): digest("v1.1.0")}
        found = known.get(asked_for.path.rpartition("/")[2])
        return Answer(200, {}, {"Docker-Content-Digest": found}) if found else Answer(404)

    with serving(answer) as web:
        monkeypatch.setenv("AIRFLOW_CONN_PMS_REGISTRY", json.dumps({"conn_type": "http", "host": web.url}))
        yield web


def ready(**changed):
    now = time.time()
    known = {
        "version": "v1.1.0", "digest": digest("v1.1.0"), "verdict": Verdict.PASS, "at": now, "expires": now + 86_400,
        "run": "readiness_run", "lines": 58,
    }  # fmt: skip
    return Readiness(**(known | changed))


@pytest.fixture
def gate(in_cluster, plan, registry):
    """Passes the gate after a readiness was handed over (None: never)."""

    def go(known, built=None, **asked_for):
        image = plan.image.model_copy(update={"build": built})
        changed = plan.model_copy(update={"image": image})

        async def work(kube):
            if known is not None:
                await result.hand_over(kube, plan.readiness_name, known)
            wanted = release(f"{REPOSITORY}:v1.1.0").model_copy(update=asked_for)
            return await readiness_gate(kube, changed, wanted)

        return in_cluster(work)

    return go


@pytest.mark.plan("Status: ✅ READY TO DEPLOY")
def test_a_fresh_pass_opens_the_gate_and_pins_the_image(gate):
    pinned, why = gate(ready())
    assert pinned.image == f"{REPOSITORY}@{digest('v1.1.0')}"
    assert why.text.startswith("ready until") and not why.overridden


AGAINST = {"id": "lint", "line": "Lint", "owner": "frontend", "verdict": Verdict.FAIL, "reason": "3 errors"}
REFUSED = [
    (None, "no readiness was ever recorded"),
    (ready(version="v1.0.9"), "is of v1.0.9, not of v1.1.0"),
    (ready(digest=digest("other")), "the last readiness is of the image"),
    (ready(digest=""), "the last readiness is of the image unknown"),
    (ready(expires=time.time() - 1), "expired on"),
    (ready(verdict=Verdict.FAIL, against=[AGAINST]), "lint (fail, frontend): 3 errors"),
    (ready(verdict=Verdict.UNKNOWN), "is not ready"),
]


@pytest.mark.plan("Status: ✅ READY TO DEPLOY")
@pytest.mark.parametrize(("known", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_anything_less_is_refused_with_what_to_do(gate, known, reason):
    with pytest.raises(AirflowFailException, match="nothing was touched") as error:
        gate(known)
    assert reason in str(error.value)
    assert "Run the DAG pms_readiness for v1.1.0" in str(error.value)


@pytest.mark.parametrize(("known", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_an_override_passes_and_says_what_was_missing(gate, known, reason):
    opened, why = gate(known, readiness_override_reason="security fix")
    assert reason in why.overridden and opened.image == f"{REPOSITORY}@{digest('v1.1.0')}"
    assert "security fix" in why.text
    asked_for = release("i").model_copy(update={"readiness_override_reason": "security fix"})
    text = messages.readiness_overridden(PLAN, asked_for, why.overridden).slack
    assert "WITHOUT readiness" in text and "security fix" in text and reason in text
    assert "readiness overridden: security fix" in asked_for.why


def test_an_override_that_was_not_needed_is_none(gate):
    opened, why = gate(ready(), readiness_override_reason="security fix")
    assert (opened.readiness_override_reason, why.overridden) == ("", "")
    assert "overridden" not in opened.why


def test_a_broken_configmap_is_no_readiness(gate, in_cluster, plan):
    gate(ready())
    broken = {"data": {"readiness": "{"}}
    in_cluster(lambda kube: kube.merge("configmaps", plan.readiness_name, broken))
    with pytest.raises(AirflowFailException, match="holds no readiness"):
        gate(None)
    gate(ready())  # and a new verdict takes its place


def test_a_registry_that_is_away_is_no_readiness(gate, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PMS_REGISTRY", json.dumps({"conn_type": "http", "host": "http://127.0.0.1:1"}))
    with pytest.raises(AirflowFailException, match="cannot be compared with its readiness"):
        gate(ready())


@pytest.mark.parametrize("override", ["", "security fix"])
@pytest.mark.parametrize(("image", "named"), [
    (f"{REPOSITORY}:v9.9.9", "v9.9.9"), (f"{REPOSITORY}@{digest('unpushed')}", digest("unpushed")),
])  # fmt: skip
def test_an_image_that_the_registry_does_not_have_is_refused_whatever_is_overridden(gate, image, named, override):
    with pytest.raises(AirflowFailException, match="nothing was touched: the registry has no") as error:
        gate(ready(), image=image, readiness_override_reason=override)
    assert named in str(error.value)


def test_an_image_that_the_deployment_builds_is_missed_before_that_only_where_it_is_named_by_its_digest(gate):
    build = ImageJob(image="builder:1", command=("build", "{image}"))
    _, why = gate(None, build, image=f"{REPOSITORY}:v9.9.9", readiness_override_reason="security fix")
    assert "is not built yet" in why.overridden
    with pytest.raises(AirflowFailException, match="not built yet"):
        gate(None, build, image=f"{REPOSITORY}:v9.9.9")
    with pytest.raises(AirflowFailException, match="the registry has no"):
        gate(None, build, image=f"{REPOSITORY}@{digest('other')}", readiness_override_reason="security fix")


def test_an_older_verdict_never_replaces_a_newer_one(in_cluster, plan):
    async def work(kube):
        await result.hand_over(kube, plan.readiness_name, ready(run="new"))
        await result.hand_over(kube, plan.readiness_name, ready(run="old", at=1.0))
        return await result.read(kube, plan.readiness_name)

    assert in_cluster(work).run == "new"


# --- the task of a line


class Ti:
    def __init__(self):
        self.pushed, first = {}, Opening(task_id="release")
        leave(first, SUBJECT_KEY, SUBJECT.model_dump(mode="json"))
        self.left = first.pushed

    def xcom_pull(self, task_ids, key):
        assert task_ids == "release"
        return self.left[key]

    def xcom_push(self, key, value):
        self.pushed[key] = value


def test_a_release_that_somebody_else_put_there_is_not_judged():
    line, ti = next(leaf for leaf in CHECKLIST.leaves if leaf.id == "security_scans"), Ti()
    ti.left[SUBJECT_KEY]["digest"] = "sha256:" + 64 * "f"
    with pytest.raises(AirflowFailException, match="subject of release was not made by its step"):
        CheckLine(task_id="line", line=line, plan=PLAN, opened_by="release").execute({"ti": ti, "run_id": "run"})


def test_a_line_whose_source_is_away_leaves_evidence_and_fails_only_itself(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PMS_GITHUB", json.dumps({"conn_type": "http", "host": "http://127.0.0.1:1"}))
    line = next(leaf for leaf in CHECKLIST.leaves if leaf.id == "security_scans")
    task, ti = CheckLine(task_id="line", line=line, plan=PLAN, opened_by="release"), Ti()
    with pytest.raises(AirflowFailException, match="security_scans: unknown"):
        task.execute({"ti": ti, "run_id": "run"})
    assert ti.pushed["evidence"]["verdict"] == "unknown"
    assert "check_runs" in ti.pushed["evidence"]["reason"] and "secret_scanning" in ti.pushed["evidence"]["reason"]
