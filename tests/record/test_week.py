"""What the record says of a week: figures, quiet or not; nothing that is not there is a pass."""

from __future__ import annotations

import pytest

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import Decision, IncidentKind
from handover.record import week
from handover.record.checklist import Mark, ReportLine, judge
from tests.record import made

FOLLOWUP = "asset_triggered__1"
LINE = ReportLine(text="Team confidence high", followups=("within_1_week.team_confidence",))


def answer(choice: str, at: float = 900, run: str = FOLLOWUP) -> Decision:
    found = Decision(at=made.START + at, question="Team confidence high?", choice=choice, who="Lead")
    return found.of(made.RUN, run, "within_1_week.team_confidence")


def values(*entries) -> dict[str, float | None]:
    return {m.what: m.value for m in week.figures(made.record(*entries))}


@pytest.mark.plan("Log deployment metrics")
def test_the_figures_of_a_success():
    assert values(made.outcome(at=300)) == {"issues": 0, "rolled_back": 0, "duration_seconds": 300}


@pytest.mark.plan("Log deployment metrics")
def test_the_figures_of_a_rollback_hours_later_keep_the_first_duration():
    back = made.outcome(Status.ROLLED_BACK, at=9000, run="rollback__x")
    lines = [made.incident(IncidentKind.OPENED, 8000), made.incident(IncidentKind.RESOLVED, 9000)]
    found = values(made.outcome(at=300), back, *lines)
    assert found == {"issues": 1, "rolled_back": 1, "duration_seconds": 300}


def test_a_deployment_without_an_end_has_no_duration():
    assert "duration_seconds" not in values()


@pytest.mark.plan("No unexpected issues")
def test_a_quiet_week_passes():
    assert week.quiet("x", [made.record(made.outcome())]).passed


@pytest.mark.plan("No unexpected issues")
@pytest.mark.parametrize("bad", [made.incident(IncidentKind.OPENED, 8000), made.outcome(Status.ROLLED_BACK, at=400)])
def test_an_incident_or_a_rollback_fails_it(bad):
    assert week.quiet("x", [made.record(made.outcome()), made.record(bad)]).verdict is Verdict.FAIL


def test_what_was_stopped_before_the_switch_troubled_nobody():
    stopped = made.outcome(Status.ROLLED_BACK, at=400, switched=None)
    assert week.quiet("x", [made.record(made.outcome()), made.record(stopped)]).passed
    assert values(stopped)["rolled_back"] == 0
    failed = made.outcome(Status.ROLLBACK_FAILED, at=400, switched=None)
    assert week.quiet("x", [made.record(failed)]).verdict is Verdict.FAIL


def test_nothing_to_look_at_is_not_known():
    assert week.quiet("x", []).verdict is Verdict.UNKNOWN


@pytest.mark.plan("Consistent performance")
def test_the_performance_then_is_that_of_the_deployments_own_run():
    mine = made.check("phase_4_post_deployment_testing.performance", p50_seconds=0.1)
    other = made.check("x.performance", run="rollback__x", p50_seconds=0.9)
    assert week.performance_then(made.record(mine, other)) == {"p50_seconds": 0.1}
    assert week.performance_then(made.record(other)) == {}


@pytest.mark.plan(
    "Monitor user feedback/bug reports",
    "Collect user feedback",
    "User feedback positive",
    "Team confidence high",
    "User adoption smooth",
    "Documentation complete",
    "Lessons learned captured",
)
@pytest.mark.parametrize(("choice", "mark"), [("Yes", Mark.ASKED), ("No", Mark.FAILED), ("Not answered", Mark.UNKNOWN)])
def test_an_answer_makes_its_line_known(choice, mark):
    assert judge(LINE, made.record(answer(choice))).mark is mark


def test_the_last_answer_counts():
    assert judge(LINE, made.record(answer("No", 900), answer("Yes", 1900))).mark is Mark.ASKED


def test_no_answer_yet_is_not_known_and_the_deployments_own_run_gives_none():
    assert judge(LINE, made.record()).mark is Mark.UNKNOWN
    assert judge(LINE, made.record(answer("Yes", run=made.RUN))).mark is Mark.UNKNOWN


@pytest.mark.plan("Verify all monitoring is working", "Stable error rates")
@pytest.mark.parametrize(
    ("verdict", "mark"),
    [(Verdict.PASS, Mark.PASSED), (Verdict.FAIL, Mark.FAILED), (Verdict.UNKNOWN, Mark.UNKNOWN)],
)
def test_what_was_looked_at_makes_its_line_known(verdict, mark):
    line = ReportLine(text="Stable error rates", followups=("within_1_week.stable_error_rates",))
    tried = made.check("within_1_week.stable_error_rates", verdict, run=FOLLOWUP)
    assert judge(line, made.record(tried)).mark is mark


@pytest.mark.plan("Update deployment log")
def test_an_answer_is_kept_with_the_deployment_it_is_about(book):
    book.ledger.write([made.deployment(), made.outcome()])
    assert book.ledger.write([answer("Yes")]) == 1
    assert book.ledger.write([answer("Yes")]) == 0
    assert judge(LINE, book.ledger.read(made.RUN)).mark is Mark.ASKED
