"""Lines of the plan, judged by what is recorded: nothing that is not there is ever a pass."""

from __future__ import annotations

import re

import pytest

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import IncidentKind
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE
from handover.record import checklist
from handover.record.checklist import Mark, ReportChecklistError, ReportLine, judge
from tests.record import made


def marked(line: ReportLine, *entries) -> Mark:
    return judge(line, made.record(*entries)).mark


STEPS = ReportLine(text="tests pass", steps=("*.unit_tests", "*.e2e_tests"))


@pytest.mark.plan("Tests: 100% pass rate", "All critical tests passing")
def test_every_step_has_to_have_passed():
    unit, e2e = made.check("p1.unit_tests"), made.check("p1.e2e_tests", reason="12 tests", at=30)
    found = judge(STEPS, made.record(unit, e2e))
    assert (found.mark, found.at) == (Mark.PASSED, made.START + 30)
    assert found.evidence == ("unit_tests: fine", "e2e_tests: 12 tests")


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_one_that_did_not_pass_fails_the_line_and_is_its_evidence(verdict):
    found = judge(STEPS, made.record(made.check("p1.unit_tests"), made.check("p1.e2e_tests", verdict, reason="3 bad")))
    assert (found.mark, found.evidence) == (Mark.FAILED, ("e2e_tests: 3 bad",))


def test_a_step_that_was_not_reached_is_not_known():
    found = judge(STEPS, made.record(made.check("p1.unit_tests")))
    assert (found.mark, found.evidence) == (Mark.UNKNOWN, ("e2e_tests: not reached",))


def test_the_last_try_counts():
    tries = [made.check("p1.unit_tests", Verdict.UNKNOWN), made.check("p1.unit_tests", tries=2)]
    assert marked(ReportLine(text="x", steps=("*.unit_tests",)), *tries) is Mark.PASSED


def test_steps_of_a_rollback_say_nothing_about_the_deployment():
    smoke = made.check("verify_application.smoke_tests", run="rollback__x")
    assert marked(ReportLine(text="x", steps=("*.smoke_tests",)), smoke) is Mark.UNKNOWN


READY = ReportLine(text="scans pass", readiness=("security_scans", "sast"))


@pytest.mark.parametrize(
    ("known", "mark"),
    [
        ([made.ready("security_scans"), made.ready("sast")], Mark.PASSED),
        ([made.ready("security_scans"), made.ready("sast", Verdict.FAIL)], Mark.FAILED),
        ([made.ready("security_scans"), made.ready("sast", Verdict.UNKNOWN)], Mark.UNKNOWN),
        ([made.ready("security_scans")], Mark.UNKNOWN),
        ([], Mark.UNKNOWN),
    ],
)
def test_a_line_of_the_readiness_is_what_the_readiness_of_this_deployment_found(known, mark):
    assert judge(READY, made.record(readiness=tuple(known))).mark is mark


def test_every_line_that_the_report_takes_from_the_readiness_is_on_its_checklist():
    wanted = {
        name
        for s in checklist.load("checklist.yaml").sections
        for g in s.groups
        for ln in g.lines
        for name in ln.readiness
    }
    known = set(re.findall(r"- id: (\w+)", (INCLUDE / "readiness" / "pms.yaml").read_text()))
    assert wanted and wanted <= known


def test_a_line_without_a_rule_is_not_known():
    assert marked(ReportLine(text="Team trained"), made.outcome()) is Mark.UNKNOWN


LIMIT = ReportLine(text="errors", steps=("*.watch",), at_most={"error_rate": 0.001}, source="probe")


@pytest.mark.plan("Zero downtime achieved", "Error rate <0.1%")
@pytest.mark.parametrize(("rate", "mark"), [(0.0, Mark.PASSED), (0.001, Mark.PASSED), (0.0011, Mark.FAILED)])
def test_a_limit_is_held_by_the_worst_value(rate, mark):
    assert marked(LIMIT, made.check("p2.watch", error_rate=0.0), made.check("p5.watch", error_rate=rate)) is mark


def test_a_limit_without_a_measurement_is_not_known():
    assert marked(LIMIT, made.check("p2.watch", other=1)) is Mark.UNKNOWN
    other = LIMIT.model_copy(update={"source": "pods"})
    assert marked(other, made.check("p2.watch", error_rate=0)) is Mark.UNKNOWN


DECISION = ReportLine(text="accepted", decisions=("*.user_acceptance",))


@pytest.mark.plan("Deployment plan reviewed", "User acceptance confirmed")
@pytest.mark.parametrize(
    ("choice", "who", "mark"),
    [("Proceed", "qa", Mark.ASKED), ("Proceed", "system", Mark.PASSED), ("Rollback", "qa", Mark.FAILED)],
)
def test_a_person_was_asked_a_branch_has_decided(choice, who, mark):
    found = judge(DECISION, made.record(made.decision("p4.user_acceptance", choice, who, why="because")))
    assert found.mark is mark
    assert who in found.evidence[0] or mark is Mark.PASSED


def test_nobody_has_decided_yet():
    assert marked(DECISION) is Mark.UNKNOWN


CALM = ReportLine(text="No critical incidents", incidents="critical", outcome=Status.SUCCEEDED)


def test_no_incident_is_only_known_when_it_is_over():
    assert marked(CALM) is Mark.UNKNOWN
    assert marked(CALM, made.outcome()) is Mark.PASSED


@pytest.mark.plan("No critical incidents")
def test_incidents_count_by_their_severity():
    minor = made.incident(IncidentKind.OPENED, 5, severity="medium")
    assert marked(CALM, made.outcome(), minor) is Mark.PASSED
    assert marked(CALM, made.outcome(), made.incident(IncidentKind.OPENED, 5)) is Mark.FAILED


@pytest.mark.plan("No critical incidents")
def test_a_success_that_was_rolled_back_later_is_no_success():
    assert marked(CALM, made.outcome(), made.outcome(Status.ROLLED_BACK, at=900, run="r")) is Mark.FAILED


def test_the_plans_own_lines_are_all_there(plan):
    """Word for word as in the plan's "Deployment Verification Checklist" and "Success Metrics"."""
    found = checklist.load(plan.record.checklist)
    lines = [line.text for section in found.sections for group in section.groups for line in group.lines]
    assert [section.title for section in found.sections] == ["Deployment Verification Checklist", "Success Metrics"]
    assert len(lines) == 19 + 11 + 6 + 8 + 7
    assert {"All PRs merged", "Tests: 100% pass rate", "Phase 6: Monitoring stabilized", "Zero downtime achieved",
            "Error rate <0.1%", "Lessons learned captured"} <= set(lines)  # fmt: skip


def test_every_rule_of_the_file_names_a_step_that_the_deployment_has(plan, dag_bag):
    """A task that is renamed would else be "not reached" for ever."""
    from fnmatch import fnmatchcase

    tasks = dag_bag.dags["pms_deployment"].task_ids
    found = checklist.load(plan.record.checklist)
    patterns = {
        pattern
        for section in found.sections
        for group in section.groups
        for line in group.lines
        for pattern in (*line.steps, *line.decisions)
    }
    assert patterns
    assert [p for p in patterns if not any(fnmatchcase(task, p) for task in tasks)] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [("sections: [{title: x, groups: [{title: y, lines: [{txt: z}]}]}]", "txt"), ("- [", "while parsing"), ("3", "")],
)
def test_a_broken_file_is_refused_by_name(tmp_path, monkeypatch, text, says):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "broken.yaml").write_text(text)
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    with pytest.raises(ReportChecklistError, match=re.escape("broken.yaml")) as error:
        checklist.load("broken.yaml")
    assert says in str(error.value)
