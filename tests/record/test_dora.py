"""DORA's four measures, from records made for the purpose."""

from __future__ import annotations

import pytest

from handover.models.deployment import Status
from handover.models.record import Change, IncidentKind
from handover.record.dora import DAY, measure
from tests.record import made

WEEK = (made.START - DAY, made.START + 6 * DAY)


def good(run: str, day: float = 0, *more):
    at = day * DAY
    return made.record(
        made.deployment(run, started_at=made.START + at), made.outcome(at=at + 300, switched=at + 60, run=run, of=run),
        *more,
    )  # fmt: skip


def bad(run: str, day: float, restored: float | None, status: Status = Status.ROLLED_BACK, switched: float | None = 60):
    at = day * DAY
    timeline = [made.incident(IncidentKind.OPENED, at + 100, of=run)]
    if restored is not None:
        timeline.append(made.incident(IncidentKind.RESOLVED, at + 100 + restored, of=run))
    end = made.outcome(status, at=at + 400, switched=None if switched is None else at + switched, run=run, of=run)
    return made.record(made.deployment(run, started_at=made.START + at), end, *timeline)


def test_the_four_measures_of_a_week():
    found = measure([good("a"), good("b", 1), good("c", 2), bad("d", 3, 240)], *WEEK)
    assert found.deployments == 4
    assert found.per_week == pytest.approx(4)
    assert found.failure_rate == pytest.approx(0.25)
    assert found.restore_seconds == pytest.approx(240)
    assert found.lead_time_seconds is None


def test_nothing_known_is_none_and_never_zero():
    found = measure([], *WEEK)
    assert (found.per_week, found.failure_rate, found.lead_time_seconds, found.restore_seconds) == (0, None, None, None)


def test_a_release_that_was_stopped_before_the_switch_never_was_in_production():
    found = measure([good("a"), bad("b", 1, 30, switched=None)], *WEEK)
    assert (found.deployments, found.stopped, found.failure_rate, found.incidents) == (1, 1, 0.0, 0)


def test_a_success_that_is_rolled_back_later_is_a_failure():
    later = made.outcome(Status.ROLLED_BACK, at=9000, run="manual__rollback", of="a")
    found = measure([good("a", 0, later)], *WEEK)
    assert (found.deployments, found.failed) == (1, 1)


def test_a_critical_incident_is_a_failure_without_a_rollback():
    found = measure([good("a", 0, made.incident(IncidentKind.OPENED, 200, of="a"))], *WEEK)
    assert (found.failed, found.open_incidents, found.restore_seconds) == (1, 1, None)


def test_an_incident_that_is_open_has_no_time_to_restore():
    found = measure([bad("a", 0, 100), bad("b", 1, None, Status.ROLLBACK_FAILED)], *WEEK)
    assert (found.restore_seconds, found.incidents, found.open_incidents) == (100, 2, 1)


def test_the_lead_time_is_the_median_from_commit_to_switch():
    changes = [
        Change(revision=str(hours), committed_at=made.START + 60 - hours * 3600).of("a", "a", "")
        for hours in (1, 5, 30)
    ]
    found = measure([good("a", 0, *changes)], *WEEK)
    assert (found.lead_time_seconds, found.changes) == (pytest.approx(5 * 3600), 3)


def test_what_is_under_way_or_of_another_time_is_not_counted():
    under_way = made.record(made.deployment("x"))
    assert measure([under_way, good("old", -30), good("a")], *WEEK).deployments == 1
