"""What a watch does at each moment of a deployment: pure decisions, every one of them."""

from __future__ import annotations

import itertools

import pytest

from handover.models.deployment import DeploymentState, FencingToken, Status
from handover.models.incident import Resolution, Severity, began
from handover.ports.router import Route, Stage, both, only
from handover.workflows.watch.response import Response, Standing, response, standing

TOKEN = FencingToken(deployment="run", generation=7, stable="blue", preview="green")


def state(**facts) -> DeploymentState:
    known = {
        "deployment": "run", "generation": 7, "status": Status.DEPLOYING, "version": "v2", "image": "web:v2",
        "previous_version": "v1", "previous_image": "web:v1", "stable": "blue", "preview": "green", "reason": "a test",
        "started_at": 1.0,
    }  # fmt: skip
    return DeploymentState(**(known | facts))


def route(weights, stage=None, generation=7, deployment="run") -> Route:
    return Route("web", weights, generation, stage, deployment, "blue", "green")


@pytest.mark.parametrize(("found", "wanted"), [
    (route(only("blue"), None, 0, ""), Standing.ARMED),
    (route(only("blue"), Stage.FINALISED, 6, "another"), Standing.ARMED),
    (route(only("blue"), Stage.STABLE), Standing.ARMED),
    (route(both("blue", "green"), Stage.OVERLAP), Standing.EXPOSED),
    (route(only("green"), Stage.PROMOTED), Standing.EXPOSED),
    (route(only("green"), Stage.RETIRING), Standing.EXPOSED),
    (route(only("green"), None, 0, ""), Standing.EXPOSED),  # by hand
    (route(only("blue"), Stage.PROMOTED), Standing.LOST),  # by hand
    (route(only("blue"), Stage.ABORTED), Standing.LOST),
    (route(only("green"), Stage.ABORTED), Standing.LOST),
    (route(only("green"), Stage.PROMOTED, 8, "another"), Standing.LOST),
])  # fmt: skip
def test_where_the_version_stands(found, wanted):
    assert standing(found, state(), TOKEN)[0] is wanted


@pytest.mark.parametrize(("facts", "wanted"), [
    ({"status": Status.SUCCEEDED}, Standing.ENDED),
    ({"status": Status.ROLLING_BACK, "generation": 8}, Standing.LOST),
    ({"status": Status.ROLLED_BACK, "generation": 8}, Standing.LOST),
    ({"status": Status.GIVEN_UP}, Standing.LOST),
    ({"deployment": "another", "generation": 8}, Standing.LOST),
    ({"deployment": "another", "generation": 8, "status": Status.SUCCEEDED}, Standing.LOST),
])  # fmt: skip
def test_when_there_is_nothing_left_to_watch(facts, wanted):
    assert standing(route(only("green"), Stage.PROMOTED), state(**facts), TOKEN)[0] is wanted


def incident(severity: Severity, outcome: Resolution):
    return began("cpu", "too much", severity, 1.0, outcome)


@pytest.mark.parametrize("severity", Severity)
def test_until_the_decision_point_every_breach_is_rolled_back(severity):
    assert response(state(), severity) is Response.ABORT
    assert response(state(switched_at=2.0), severity) is Response.ABORT


@pytest.mark.parametrize(("severity", "wanted"), [
    (Severity.CRITICAL, Response.ASK), (Severity.HIGH, Response.NOTE), (Severity.MEDIUM, Response.NOTE),
    (Severity.LOW, Response.NOTE),
])  # fmt: skip
def test_after_it_a_critical_one_is_asked_about_and_the_others_are_noted(severity, wanted):
    assert response(state(watch_until=9.0), severity) is wanted
    assert response(state(watch_until=9.0, incidents=(incident(severity, Resolution.NOTED),)), severity) is wanted


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("outcome", [Resolution.ASKED, Resolution.ROLLED_BACK])
def test_while_somebody_decides_or_mends_nothing_is_done(severity, outcome):
    known = (incident(Severity.CRITICAL, Resolution.FIXED), incident(Severity.CRITICAL, outcome))
    assert response(state(watch_until=9.0, incidents=known), severity) is Response.WAIT


def test_a_second_critical_one_after_a_fix_is_rolled_back():
    known = (incident(Severity.CRITICAL, Resolution.FIXED),)
    found = {one: response(state(watch_until=9.0, incidents=known), one) for one in Severity}
    assert found == {
        Severity.CRITICAL: Response.ABORT, Severity.HIGH: Response.NOTE, Severity.MEDIUM: Response.NOTE,
        Severity.LOW: Response.NOTE,
    }  # fmt: skip


def test_there_is_an_answer_to_everything():
    outcomes = list(itertools.product(Resolution, repeat=2))
    for severity, until, (one, other) in itertools.product(Severity, (None, 9.0), outcomes):
        known = (incident(Severity.CRITICAL, one), incident(Severity.CRITICAL, other))
        assert response(state(watch_until=until, incidents=known), severity) in Response
