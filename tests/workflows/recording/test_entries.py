"""Which entries a task has earned: the same ones at once and later, nothing made up, nothing lost."""

from __future__ import annotations

import pytest

from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import Status
from handover.models.evidence import Measurement, Verdict, failed, passed
from handover.models.incident import Incident, Severity, began
from handover.models.incident import Resolution as Answer
from handover.models.record import (
    Check,
    Decision,
    Deployment,
    IncidentEntry,
    IncidentKind,
    Outcome,
    Sample,
    SentMessage,
)
from handover.workflows.recording.entries import KEYS, TaskRun, entries_of, incident_of

RUN, BACK = "manual__1", "rollback__manual__1"


def task(task_id: str = "p1.backup", state: str = "success", *, run: str = RUN, tries: int = 1, at: float = 100.0,
         operator: str = "Backup", error: str = "") -> TaskRun:  # fmt: skip
    return TaskRun(run, task_id, operator, state, tries, at - 5, at, error)


def left(**things) -> dict:
    """XComs as JSON, as Airflow keeps them."""
    return {
        key: [one.model_dump(mode="json") for one in value]
        if isinstance(value, list)
        else value.model_dump(mode="json")
        for key, value in things.items()
    }


def test_evidence_becomes_a_check_with_place_try_and_time():
    evidence = passed("backup", "120 MB", Measurement(what="bytes", value=1.0, source="s3", at=99))
    (check,) = entries_of(RUN, task(tries=3), left(evidence=evidence))
    assert isinstance(check, Check)
    assert (check.deployment, check.run, check.step, check.try_number) == (RUN, RUN, "p1.backup", 3)
    assert (check.verdict, check.reason, check.measurements) == (Verdict.PASS, "120 MB", evidence.measurements)
    assert (check.started_at, check.at, check.phase, check.name) == (95, 100, "p1", "backup")


def test_a_failed_task_without_evidence_is_unknown_with_what_is_known():
    (check,) = entries_of(RUN, task(state="failed", error="KubeError: no answer"), {})
    assert (check.verdict, check.reason) == (Verdict.UNKNOWN, "KubeError: no answer")
    (check,) = entries_of(RUN, task(state="failed"), {})
    assert check.reason == "failed and left no evidence"


def test_a_failed_task_with_evidence_keeps_its_verdict():
    (check,) = entries_of(RUN, task(state="failed"), left(evidence=failed("backup", "too small")))
    assert (check.verdict, check.reason) == (Verdict.FAIL, "too small")


def test_every_answer_of_a_role_is_a_check_of_its_own():
    said = {"dns": passed("dns", "confirmed by Lea"), "flags": failed("flags", "denied by Lea")}
    found = entries_of(
        RUN, task("people.lead", state="failed"), {"answers": {k: v.model_dump() for k, v in said.items()}}
    )
    assert [(c.step, c.name, c.verdict, c.reason) for c in found] == [
        ("people.lead.dns", "dns", Verdict.PASS, "confirmed by Lea"),
        ("people.lead.flags", "flags", Verdict.FAIL, "denied by Lea"),
    ]


@pytest.mark.parametrize("operator", ["RollBack", "GiveUp"])
def test_what_fails_by_design_is_no_check(operator):
    assert entries_of(RUN, task(state="failed", operator=operator), {}) == []


def test_a_task_that_left_nothing_and_passed_leaves_no_entry():
    assert entries_of(RUN, task(operator="ReleaseDue"), {}) == []


OPENED = Deployment(
    plan="pms", version="v1.1.0", image="i", previous_version="v1.0.0", previous_image="j", method="sql",
    requested_by="lead", reason="the release of November", started_at=90.0,
)  # fmt: skip


@pytest.mark.plan("Deployment Lead: ________________", "Date: ________", "Version Deployed: v1.0.0")
def test_opening_is_a_decision_of_who_asked_for_it():
    found = entries_of(RUN, task("open"), left(deployment=OPENED, evidence=passed("open", "ok")))
    deployment, decision, _ = found
    assert deployment == OPENED.of(RUN, RUN, "open")
    assert (decision.who, decision.choice, decision.why) == ("lead", "Deploy", "the release of November")


@pytest.mark.parametrize(
    ("overridden", "question"),
    [("window_override_reason", "Outside the deployment window?"), ("readiness_override_reason", "Without readiness?")],
)
def test_each_override_is_a_decision_of_its_own(overridden, question):
    opened = OPENED.model_copy(update={overridden: "the bug costs money"})
    decisions = [e for e in entries_of(RUN, task("open"), left(deployment=opened)) if isinstance(e, Decision)]
    assert [(d.question, d.choice, d.why) for d in decisions][1:] == [(question, "Override", "the bug costs money")]


def test_an_entry_from_before_each_override_had_its_name_is_still_read():
    left_behind = {**OPENED.model_dump(exclude={"window_override_reason"}), "override_reason": "the bug costs money"}
    assert Deployment.model_validate(left_behind).window_override_reason == "the bug costs money"


def test_decisions_messages_samples_and_outcomes_get_their_place():
    found = entries_of(
        RUN, task("p2.x"),
        left(
            decision=Decision(at=1, question="Go?", choice="Proceed", who="qa"),
            messages=[SentMessage(at=2, channel="slack #a", text="hi"), SentMessage(at=2, channel="e-mail", text="hi")],
            samples=[Sample(what="error_rate", source="pods", at=3, value=0.0)],
            outcome=Outcome(status=Status.SUCCEEDED, at=4),
        ),
    )  # fmt: skip
    assert [type(e).__name__ for e in found] == ["Decision", "SentMessage", "SentMessage", "Sample", "Outcome"]
    assert {(e.deployment, e.run, e.step) for e in found} == {(RUN, RUN, "p2.x")}


def test_every_key_that_is_read_is_known():
    assert len(set(KEYS)) == len(KEYS)
    assert EVIDENCE_KEY in KEYS


def rolled_back(*, switched: float | None, status: Status = Status.ROLLED_BACK):
    evidence = passed("move_traffic_back", "traffic is back on blue (v1.0.0): errors")
    asked = Decision(at=103, question="Roll back?", choice="Roll back", who="automation", why="watch: 5 % errors")
    outcome = Outcome(status=status, at=200, switched_at=switched)
    return [
        *entries_of(RUN, task("p1.tests", at=50), left(evidence=passed("tests", "ok"))),
        *entries_of(RUN, task("p2.watch", "failed", at=101), left(evidence=failed("watch", "5 % errors"))),
        *entries_of(RUN, task("move_traffic_back", run=BACK, at=105), left(decision=asked, evidence=evidence)),
        *entries_of(RUN, task("close", run=BACK, at=200), left(outcome=outcome)),
    ]


def test_a_rollback_is_an_incident_from_the_first_failure_until_it_is_closed():
    found = incident_of(BACK, rolled_back(switched=90))
    assert [(e.kind, e.at) for e in found] == [
        (IncidentKind.OPENED, 101), (IncidentKind.NOTED, 103), (IncidentKind.NOTED, 105), (IncidentKind.RESOLVED, 200),
    ]  # fmt: skip
    assert found[0].text == "watch: 5 % errors"
    assert {(e.incident, e.severity) for e in found} == {(BACK, "critical")}
    assert incident_of(BACK, rolled_back(switched=90)) == found  # the same again: nothing is written twice


def test_it_begins_when_the_evidence_was_measured_not_when_its_task_ended():
    evidence = failed("watch", "5 % errors", Measurement(what="error_rate", value=0.05, source="pods", at=97.5))
    watch = entries_of(RUN, task("p2.watch", "failed", at=101), left(evidence=evidence))
    others = [e for e in rolled_back(switched=90) if e.step != "p2.watch"]
    assert incident_of(BACK, [*watch, *others])[0].at == 97.5


def test_what_was_stopped_before_the_switch_was_nobodys_incident():
    assert incident_of(BACK, rolled_back(switched=None)) == []
    failed_to_stop = incident_of(BACK, rolled_back(switched=None, status=Status.ROLLBACK_FAILED))
    assert failed_to_stop[0].kind is IncidentKind.OPENED  # somebody has to look


def test_a_rollback_that_failed_leaves_its_incident_open():
    kinds = {e.kind for e in incident_of(BACK, rolled_back(switched=90, status=Status.ROLLBACK_FAILED))}
    assert kinds == {IncidentKind.OPENED, IncidentKind.NOTED}


def test_a_rollback_by_hand_begins_with_the_person():
    entries = [e for e in rolled_back(switched=90) if not (isinstance(e, Check) and e.verdict is Verdict.FAIL)]
    first = incident_of(BACK, entries)[0]
    assert (first.kind, first.at, first.who) == (IncidentKind.OPENED, 103, "automation")


def test_a_rollback_run_that_did_nothing_leaves_no_incident():
    assert incident_of("rollback__other", rolled_back(switched=90)) == []


def watched(answer: Answer, *more: tuple[float, str]) -> Incident:
    found = began("error_rate", "5 % bad", Severity.CRITICAL, 97.0, answer)
    for at, what in more:
        found = found.then(at, what)
    return found


def closed(status: Status, *incidents: Incident, at: float = 200, run: str = BACK) -> list:
    xcoms = left(outcome=Outcome(status=status, at=at, switched_at=90), incidents=list(incidents))
    return entries_of(RUN, task("close", run=run, at=at), xcoms)


def test_an_incident_of_the_watch_keeps_its_timeline_and_ends_with_the_rollback():
    found = [
        e for e in closed(Status.ROLLED_BACK, watched(Answer.ROLLED_BACK, (98, "back on blue")))
        if isinstance(e, IncidentEntry)
    ]  # fmt: skip
    assert [(e.kind, e.at) for e in found] == [
        (IncidentKind.OPENED, 97), (IncidentKind.NOTED, 98), (IncidentKind.RESOLVED, 200),
    ]  # fmt: skip
    assert {(e.incident, e.severity) for e in found} == {(f"{RUN} error_rate 97", Severity.CRITICAL)}


def test_a_fix_resolves_it_when_it_worked():
    found = closed(Status.SUCCEEDED, watched(Answer.FIXED, (100, "Fix by lead"), (150, "healthy")), run=RUN)
    assert [(e.kind, e.at) for e in found if isinstance(e, IncidentEntry)][-1] == (IncidentKind.RESOLVED, 150)


def test_what_the_watch_tells_is_not_told_again_by_the_rollback():
    others = [e for e in rolled_back(switched=90) if e.step != "close"]
    told = closed(Status.ROLLED_BACK, watched(Answer.ROLLED_BACK))
    assert incident_of(BACK, [*others, *told]) == []
    fixed_before = closed(Status.ROLLED_BACK, watched(Answer.FIXED))
    assert incident_of(BACK, [*others, *fixed_before]) != []
