"""Scenarios: substitution, answers, and a run against a real server."""

from __future__ import annotations

import datetime

import pytest
import requests

from handover.checks.client import Endpoint, LoginFailed
from handover.checks.scenario import Scenario, StepFailed, beginnings, picked, substituted
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, ScenarioStep
from handover.plan.traffic import Origin
from tests.support.web import Answer, serving

ORIGIN = Origin(header="X-Version")
FUNCTIONAL = load_plan(INCLUDE / "plans" / "pms.yaml").functional
API = Endpoint("http://127.0.0.1:9", extra={"test_email": "t@example.com", "test_password": "hush-hush"})
VARIABLES = {"id": 7, "name": "x", "nothing": None}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("{id}", 7),
        ("/a/{id}/b", "/a/7/b"),
        ("{name}{id}", "x7"),
        ("{nothing}", None),
        ("none", "none"),
        ("{ id }", "{ id }"),
        (5, 5),
        (None, None),
        (True, True),
        ({"a": "{id}", "b": ["{name}", {"c": "{id}"}]}, {"a": 7, "b": ["x", {"c": 7}]}),
    ],
)
def test_substitution(value, result):
    assert substituted(value, VARIABLES) == result


def test_an_unknown_variable():
    with pytest.raises(KeyError):
        substituted("{other}", VARIABLES)


@pytest.mark.parametrize(
    ("body", "path", "value"),
    [
        ({"id": 1}, "id", 1),
        ({"a": {"b": [{"c": 2}]}}, "a.b.0.c", 2),
        ([{"id": 1}, {"id": 2}], "1.id", 2),
        ([{"id": 3}], "*.id", 3),
        ({"id": 0}, "id", 0),
        ({"id": ""}, "id", ""),
    ],
)
def test_picking(body, path, value):
    assert picked(body, path) == value


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "id"),
        ([], "*.id"),
        ([], "0.id"),
        ([1], "x"),
        ("text", "id"),
        (None, "id"),
        ({"id": None}, "id"),
        ([{}], "5"),
    ],
)
def test_picking_what_is_not_there(body, path):
    with pytest.raises(LookupError):
        picked(body, path)


def test_any_item_of_a_list_is_picked():
    assert {picked([{"id": n} for n in range(3)], "*.id") for _ in range(200)} == {0, 1, 2}


def test_a_scenario_begins_with_days_that_differ_from_run_to_run():
    today = datetime.date(2026, 11, 24)
    made = [beginnings(FUNCTIONAL, API, today) for _ in range(200)]
    days = {datetime.date.fromisoformat(one["day"]) for one in made}
    assert len(days) > 50
    assert min(days) >= today + datetime.timedelta(days=FUNCTIONAL.days_ahead)
    assert max(days) < today + datetime.timedelta(days=FUNCTIONAL.days_ahead + FUNCTIONAL.days_span)
    first, second = (datetime.date.fromisoformat(made[0][key]) for key in ("day", "next_day"))
    assert second - first == datetime.timedelta(days=1)


def test_without_a_test_user_there_is_no_scenario():
    with pytest.raises(LoginFailed, match="test_email"):
        beginnings(FUNCTIONAL, Endpoint("http://x"), datetime.date.today())


def test_an_endpoint_never_shows_its_secrets():
    assert "hush" not in repr(Endpoint("http://x", "hush", {"test_password": "hush"}))


def ran(answer, *steps, variables=None):
    with serving(answer) as web, requests.Session() as http:
        given = {"test_password": "hush-hush"} | (variables or {})
        scenario = Scenario(http, Endpoint(web.url), given, ORIGIN, "v1.1.0")
        return [scenario.call(step) for step in steps], web.asked


def step(name="a", method="POST", path="/a", **more) -> ScenarioStep:
    return ScenarioStep(name=name, method=method, path=path, **{"expect": 200, **more})


NEW = {"X-Version": "v1.1.0"}


def test_answers_flow_into_later_calls():
    done, asked = ran(
        lambda call: Answer(200, {"token": "t1", "id": 5}, NEW),
        step(save={"token": "token", "thing": "id"}),
        step(name="b", method="PUT", path="/a/{thing}", body={"id": "{thing}", "text": "no {thing}"}),
    )
    assert [one.name for one in done] == ["a", "b"]
    assert all(0 < one.seconds < 5 for one in done)
    assert "authorization" not in asked[0].headers
    assert (asked[1].path, asked[1].body) == ("/a/5", {"id": 5, "text": "no 5"})
    assert asked[1].headers["authorization"] == "Bearer t1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(500, {"error": "no"}, NEW), 'a: POST /a: 500 instead of 200: {"error": "no"}'),
        (Answer(400, {"given": "hush-hush"}, NEW), r'400 instead of 200: {"given": "\*\*\*"}'),
        (Answer(200, {}, {"X-Version": "v1.0.0"}), "answered by v1.0.0 instead of v1.1.0"),
        (Answer(200, {}), "answered by an unnamed version"),
        (Answer(200, {}, NEW), "the answer has no id"),
        (Answer(200, b"<html>", NEW), "a: POST /a: "),
    ],
)
def test_an_answer_that_is_not_as_wanted(answer, said):
    with pytest.raises(StepFailed, match=said):
        ran(lambda _: answer, step(save={"x": "id"}))


def test_no_answer():
    with requests.Session() as http, pytest.raises(StepFailed, match="a: POST /a: ConnectionError"):
        Scenario(http, Endpoint("http://127.0.0.1:9"), {"test_password": ""}, ORIGIN, "v1").call(step())
