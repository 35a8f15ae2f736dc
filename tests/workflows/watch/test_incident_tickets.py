"""Each incident that a deployment went through has one ticket, however often the step runs."""

from __future__ import annotations

import pytest

from handover import clock
from handover.models.incident import Resolution, Severity, began
from handover.outside import outside, standing_in
from handover.workflows.watch.incident_steps import DocumentIncidents
from tests.support.steps import opened, release, run
from tests.twins.channels import TICKETS, TwinChannels

IMAGE = "registry.example.com/shop/web@sha256:1"


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def people(twin):
    found = TwinChannels()
    with standing_in(found.outside(outside())):
        yield found


@pytest.fixture
def token(in_cluster, plan, people):
    """Of a deployment with three incidents, two of them of one rule."""
    now = clock.epoch()
    incidents = tuple(
        began(rule, "too much", Severity.HIGH, now + at, Resolution.NOTED)
        for rule, at in (("cpu", 0.0), ("cpu", 60.5), ("memory", 60.5))
    )
    return in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE, incidents=incidents))


def document(plan, token):
    return run(DocumentIncidents(task_id="document_incidents", plan=plan), token, release(IMAGE)).evidence


@pytest.mark.plan("Document incident for post-mortem")
def test_each_incident_has_a_ticket_of_its_own(plan, token, people):
    assert document(plan, token).reason == "tickets PMS-1, PMS-2, PMS-3"
    told = [ticket for _, ticket in people.opened.values()]
    assert [one.summary.rpartition(", ")[2] for one in told] == ["cpu", "cpu", "memory"]
    assert {one.kind for one in told} == {"Incident"}
    assert "high incident, noted: cpu" in told[0].description


def test_a_ticket_is_of_the_type_that_the_plan_names(plan, token, people):
    messages = plan.messages.model_copy(update={"ticket_incident_type": "Outage"})
    document(plan.model_copy(update={"messages": messages}), token)
    assert {ticket.kind for _, ticket in people.opened.values()} == {"Outage"}


def test_a_step_that_is_killed_before_it_hears_of_a_ticket_opens_no_second_one(plan, token, people):
    people.lost = Killed()
    with pytest.raises(Killed):
        document(plan, token)
    assert len(people.opened) == 1
    for _ in range(2):
        assert document(plan, token).reason == "tickets PMS-1, PMS-2, PMS-3"
    assert len(people.opened) == 3


def test_a_ticket_system_that_is_away_fails_nothing(plan, token, people):
    people.away.add(TICKETS)
    evidence = document(plan, token)
    assert evidence.passed and evidence.reason == f"tickets {', '.join(['none (status 503)'] * 3)}"
