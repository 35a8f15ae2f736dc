"""What is read out of a round, and what is said of all of them; the manifests and the rules that go with it."""

from __future__ import annotations

import pytest
import yaml

from handover.plan.load import load_plan
from sandbox.argo import manifests
from sandbox.argo.comparison import WINDOW_SECONDS, Bad, Cause, Round, Who, compare, judge, serving
from sandbox.argo.controller import installation
from sandbox.argo.objects import path_of
from sandbox.bench_cluster import CHANGES, PLAN, rules
from sandbox.cutover import Answer
from sandbox.overlays import write_overlay
from sandbox.settings import REPOSITORY

OLD, NEW = "v1", "v2"


def judged(answers: list[Answer], bad: list[Bad] | None = None, decided: float | None = None) -> Round:
    return judge(
        Who.OURS, Cause.FAULT, 100.0, NEW, answers=answers, bad=bad or [], requests=900, decided=decided
    )  # fmt: skip


def a_round(who: Who, seconds: float, *, failed: int = 0) -> Round:
    return Round(who, Cause.HAND, seconds, None, 1000, failed, 0, 0)


def test_traffic_is_back_with_the_last_request_that_a_new_connection_brought_to_the_new_version():
    answers = [Answer(100.3, NEW, True), Answer(100.41, NEW, True), Answer(104.0, NEW, False), Answer(105.0, OLD, True)]
    assert judged(answers).traffic_back_seconds == 0.41


def test_a_version_that_got_nothing_any_more_took_no_time():
    assert judged([Answer(99.9, NEW, True), Answer(100.2, OLD, True)]).traffic_back_seconds == 0


def test_what_served_before_it_happened_shows_whether_something_else_came_first():
    before = [Answer(98.0, OLD, True), Answer(99.2, NEW, True), Answer(99.4, OLD, False), Answer(100.1, OLD, True)]
    assert serving(before, 100.0) == {NEW}
    assert serving([*before, Answer(99.9, OLD, True)], 100.0) == {OLD, NEW}


def test_bad_answers_are_counted_in_the_window_and_lost_requests_in_the_whole_round():
    bad = [
        Bad(99.0, True), Bad(100.1, True), Bad(100.2, True), Bad(104.0, False), Bad(100 + WINDOW_SECONDS + 1, False),
        Bad(98.0, True, "refused"), Bad(109.0, False, "reset"),
    ]  # fmt: skip
    found = judged([], bad)
    assert (found.bad_on_new_connections, found.bad_on_kept_connections, found.failed) == (2, 1, 2)


def test_a_decision_is_counted_from_what_it_answers():
    assert judged([], decided=110.25).decision_seconds == 10.25
    assert judged([]).decision_seconds is None


def test_a_line_has_every_value_and_how_many_times_argos_ours_is():
    rounds = [a_round(Who.OURS, s) for s in (0.2, 0.3, 0.9)] + [a_round(Who.ARGO, s) for s in (0.4, 0.6, 0.5)]
    line = compare(rounds)["by_hand_to_traffic_back_seconds"]
    assert line["ours"] == {"median": 0.3, "worst": 0.9, "all": [0.2, 0.3, 0.9]}
    assert line["argo"]["all"] == [0.4, 0.6, 0.5]
    assert (line["ratio"], line["more_by"], line["at_most_argo"], line["why_not"]) == (0.6, 0.0, True, "")


def test_a_lost_line_says_by_how_much_and_why():
    rounds = [a_round(Who.OURS, 0.6, failed=1), a_round(Who.ARGO, 0.1)]
    lines = compare(rounds)
    assert (lines["by_hand_to_traffic_back_seconds"]["more_by"], lines["failed_requests_hand"]["more_by"]) == (0.5, 1.0)
    assert "rollback DAG" in lines["by_hand_to_traffic_back_seconds"]["why_not"]
    assert lines["failed_requests_hand"]["ratio"] is None


def test_argos_fault_rounds_at_either_interval_are_set_against_the_same_of_ours():
    ours = Round(Who.OURS, Cause.FAULT, 0.3, None, 1000, 0, 10, 20)
    argos = [
        Round(Who.ARGO, cause, seconds, None, 1000, 0, 30, 40)
        for cause, seconds in ((Cause.FAULT, 0.2), (Cause.FAULT_EVERY_SECOND, 0.5))
    ]
    lines = compare([ours, *argos])
    assert lines["fault_to_traffic_back_seconds"]["ratio"] == 1.5
    assert lines["fault_to_traffic_back_seconds_argo_every_second"]["ratio"] == 0.6


def test_a_line_that_only_one_side_has_run_is_left_out():
    assert compare([a_round(Who.OURS, 0.6)]) == {}


@pytest.fixture
def template():
    path = REPOSITORY / "include" / "k8s" / "deployment.yaml"
    return yaml.safe_load(path.read_text().replace("$", "x"))["spec"]["template"]


def test_argos_pods_are_ours_but_for_their_label(template):
    spec = manifests.rollout(template, "registry/pms@sha256:1")["spec"]
    ours, theirs = template["spec"]["containers"][0], spec["template"]["spec"]["containers"][0]
    assert theirs == {**ours, "image": "registry/pms@sha256:1"}
    assert spec["template"]["metadata"]["labels"] == spec["selector"]["matchLabels"] == manifests.LABELS
    assert spec["strategy"]["blueGreen"]["scaleDownDelaySeconds"] == 900


def test_argo_is_given_as_tight_a_rule_as_it_takes():
    answers, tracker = manifests.analysis("http://127.0.0.1:1", "http://127.0.0.1:2", "100ms")["spec"]["metrics"]
    assert (answers["failureLimit"], answers["consecutiveErrorLimit"]) == (0, 0)
    assert (answers["interval"], tracker["interval"]) == ("100ms", "1s")
    assert tracker["consecutiveErrorLimit"] == manifests.MISSED


def test_both_are_as_patient_with_a_silent_source(tmp_path):
    plan = load_plan(PLAN, write_overlay(tmp_path / "overlay.yaml", CHANGES))
    assert plan.watch.no_data_seconds == manifests.MISSED * manifests.RETRY_SECONDS


def test_the_rules_are_told_as_they_are(tmp_path):
    told = rules(load_plan(PLAN, write_overlay(tmp_path / "overlay.yaml", CHANGES)))
    assert "every 0.1 s" in told["ours"]["answers"]
    assert "at least 3 bad ones" in told["ours"]["bad"]
    assert "every 1s" in told["argo"]["answers"]
    assert told["argo"]["silence"].startswith("2 samples")


def test_only_argos_own_objects_are_installed_and_they_go_to_its_namespace(tmp_path):
    made = {"crds/a-crd.yaml": "CustomResourceDefinition", "base/argo-rollouts-sa.yaml": "ServiceAccount"}
    for name, kind in made.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        version = "v1" if kind == "ServiceAccount" else "apiextensions.k8s.io/v1"
        path.write_text(yaml.safe_dump({"apiVersion": version, "kind": kind, "metadata": {"name": "it"}}))
    (tmp_path / "crds" / "kustomization.yaml").write_text("resources: []")
    assert [path_of(manifest) for manifest in installation(tmp_path)] == [
        "/api/v1/namespaces/argo-rollouts",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/it",
        "/api/v1/namespaces/argo-rollouts/serviceaccounts/it",
    ]
