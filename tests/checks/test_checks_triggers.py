"""The health trigger: stored, revived, and run against a server in memory in virtual time, with its exact events."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from handover import clock
from handover.checks.triggers import POLL_SECONDS, REQUEST_SECONDS, HealthTrigger
from handover.models.evidence import Verdict
from tests.support.steps import connect_to, events
from tests.support.web import Answer
from tests.twins.http import TwinServer

NEW = {"X-Version": "v1.1.0"}


@pytest.fixture
def health(monkeypatch, virtual_time):
    """Runs the trigger against a server; gives its event, what was asked, and after how many seconds it came."""

    def wait(answer, seconds=5.0, password="t0k3n", server=None, **more):
        server = server or TwinServer(answer)
        monkeypatch.setattr("handover.checks.triggers.session", server.session)
        connect_to(monkeypatch, "web", host="web", port=80, password=password)
        trigger = HealthTrigger(
            check="health", connection="web", path="/health", deadline=clock.epoch() + seconds, **more
        )
        assert password not in json.dumps(trigger.serialize())
        begun = virtual_time.now
        (event,) = asyncio.run(events(trigger, seconds=1e6))
        return event, server.asked, virtual_time.now - begun

    return wait


def series(*answers: Answer):
    """Answers one after another, the last one for ever."""
    given = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda _: next(given)


@pytest.mark.plan(
    "Staging API responding with 200 OK",
    "Expected: 200 OK with status JSON",
    "Health check returns 200 OK",
    "Phase 3: Health checks pass",
)
def test_three_good_answers_are_healthy(health):
    event, asked, seconds = health(series(Answer()))
    assert event["verdict"] == Verdict.PASS
    assert event["reason"] == "3 good answers in a row from /health"
    assert [m["value"] for m in event["measurements"]] == [1.0]
    assert len(asked) == 3
    assert all("authorization" not in call.headers for call in asked)
    assert seconds == pytest.approx(2 * POLL_SECONDS)


def test_a_bad_one_in_between_begins_the_row_anew(health):
    _, asked, _ = health(series(Answer(), Answer(), Answer(503), Answer()))
    assert len(asked) == 6


def test_the_token_is_sent_only_when_asked_for_and_never_told(health):
    event, asked, _ = health(series(Answer(503, {"why": "down"})), bearer=True)
    assert asked[0].headers["authorization"] == "Bearer t0k3n"
    assert "t0k3n" not in json.dumps(event)


def test_a_503_never_makes_it_hot(health):
    event, asked, seconds = health(series(Answer(503, {"status": "down"})), seconds=30)
    assert event["verdict"] == Verdict.FAIL
    assert event["reason"] == '/health is not healthy: status 503: {"status": "down"}'
    assert seconds == pytest.approx(30)
    assert len(asked) == 30 / POLL_SECONDS + 1


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_end_the_wait(health, status):
    event, asked, seconds = health(series(Answer(status)), seconds=30, bearer=True)
    assert event["verdict"] == Verdict.UNKNOWN
    assert f"status {status}" in event["reason"]
    assert len(asked) == 3
    assert seconds == pytest.approx(2 * POLL_SECONDS)


@pytest.mark.parametrize("status", [204, 206, 301, 308])
def test_whatever_is_2xx_or_3xx_is_good(health, status):
    event, asked, _ = health(series(Answer(status, headers=NEW)), origin={"header": "X-Version"}, wanted="v1.1.0")
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 3)


def test_a_redirect_on_the_same_host_is_followed_to_where_the_service_answers(health):
    def answer(asked):
        return Answer(301, headers={"Location": "/healthz"}) if asked.path == "/health" else Answer(500)

    event, asked, _ = health(answer, bearer=True)
    assert event["verdict"] == Verdict.FAIL
    assert {call.path for call in asked} == {"/health", "/healthz"}
    assert all(call.headers["authorization"] == "Bearer t0k3n" for call in asked)


def test_a_redirect_to_another_host_is_the_answer_and_gets_no_token(health):
    event, asked, _ = health(series(Answer(302, headers={"Location": "https://login.example.com/"})), bearer=True)
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 3)


@pytest.mark.parametrize("status", [429, 403, 451])
def test_an_answer_of_the_edge_is_neither_good_nor_bad(health, status):
    event, asked, _ = health(series(Answer(), Answer(status), Answer(), Answer(status), Answer()))
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 5)
    event, _, seconds = health(series(Answer(status)), seconds=30)
    assert (event["verdict"], seconds) == (Verdict.UNKNOWN, pytest.approx(30))
    assert f"status {status}: the client is refused" in event["reason"]


def test_an_answer_that_a_cache_has_had_since_before_says_nothing_of_who_answers_now(health):
    stored = Answer(headers={**NEW, "Age": "300"})
    event, *_ = health(series(stored), origin={"header": "X-Version"}, wanted="v1.1.0")
    assert event["verdict"] == Verdict.UNKNOWN
    assert "a cache has had this answer for 300 s" in event["reason"]
    event, asked, _ = health(series(stored, Answer(headers=NEW)), origin={"header": "X-Version"}, wanted="v1.1.0")
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 4)


def test_another_version_is_not_the_one_waited_for(health):
    old = Answer(headers={"X-Version": "v1.0.0"})
    event, *_ = health(series(old), origin={"header": "X-Version"}, wanted="v1.1.0")
    assert event["reason"] == "/health is not healthy: answered by v1.0.0 instead of v1.1.0"
    event, asked, _ = health(series(old, Answer(headers=NEW)), origin={"header": "X-Version"}, wanted="v1.1.0")
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 4)


def test_the_version_may_be_told_by_another_path(health):
    def answer(asked):
        return Answer(body={"version": "1.1.0"} if asked.path == "/version" else {"status": "OK"})

    event, asked, _ = health(answer, origin={"field": "version", "path": "/version"}, wanted="v1.1.0")
    assert event["verdict"] == Verdict.PASS
    assert [call.path for call in asked] == ["/health", "/version"] * 3
    event, *_ = health(answer, origin={"field": "version"}, wanted="v1.1.0")
    assert event["reason"] == "/health is not healthy: answered by an unnamed version instead of v1.1.0"


def test_too_few_good_answers_in_time(health):
    event, *_ = health(series(Answer()), seconds=0.0)
    assert event["reason"] == "/health is not healthy: only 1 good answers"


def test_nobody_there(health):
    event, *_ = health(None, server=TwinServer(series(Answer()), there=False))
    assert event["verdict"] == Verdict.FAIL
    assert "no answer" in event["reason"]


def test_a_server_that_hangs(health):
    event, _, seconds = health(None, seconds=12, server=TwinServer(series(Answer()), delay=1e6))
    assert event["verdict"] == Verdict.FAIL
    assert "no answer" in event["reason"]
    assert seconds == pytest.approx(3 * REQUEST_SECONDS + 2 * POLL_SECONDS)
