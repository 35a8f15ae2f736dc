"""The health trigger: stored, revived, and run against real servers, with its exact events."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from handover.checks.triggers import HealthTrigger
from handover.models.evidence import Verdict
from tests.support.steps import connect_to, events
from tests.support.web import Answer, serving

NEW = {"X-Version": "v1.1.0"}


def health(monkeypatch, answer, seconds=5.0, password="t0k3n", **more):
    with serving(answer) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port, password=password)
        trigger = HealthTrigger(
            check="health", connection="web", path="/health", deadline=time.time() + seconds,
            **{"poll_seconds": 0.05, **more},
        )  # fmt: skip
        assert password not in json.dumps(trigger.serialize())
        (event,) = asyncio.run(events(trigger))
        return event, web.asked


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
def test_three_good_answers_are_healthy(monkeypatch):
    event, asked = health(monkeypatch, series(Answer()))
    assert event["verdict"] == Verdict.PASS
    assert event["reason"] == "3 good answers in a row from /health"
    assert [m["value"] for m in event["measurements"]] == [1.0]
    assert len(asked) == 3
    assert all("authorization" not in call.headers for call in asked)


def test_a_bad_one_in_between_begins_the_row_anew(monkeypatch):
    _, asked = health(monkeypatch, series(Answer(), Answer(), Answer(503), Answer()))
    assert len(asked) == 6


def test_the_token_is_sent_only_when_asked_for_and_never_told(monkeypatch):
    event, asked = health(monkeypatch, series(Answer(503, {"why": "down"})), seconds=0.2, bearer=True)
    assert asked[0].headers["authorization"] == "Bearer t0k3n"
    assert "t0k3n" not in json.dumps(event)


def test_a_503_never_makes_it_hot(monkeypatch):
    event, asked = health(monkeypatch, series(Answer(503, {"status": "down"})), seconds=0.5, poll_seconds=0.1)
    assert event["verdict"] == Verdict.FAIL
    assert event["reason"] == '/health is not healthy: status 503: {"status": "down"}'
    assert len(asked) <= 7


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_end_the_wait(monkeypatch, status):
    begun = time.monotonic()
    event, asked = health(monkeypatch, series(Answer(status)), seconds=30, bearer=True)
    assert event["verdict"] == Verdict.FAIL
    assert f"status {status}" in event["reason"]
    assert len(asked) == 3
    assert time.monotonic() - begun < 5


def test_another_version_is_not_the_one_waited_for(monkeypatch):
    old = Answer(headers={"X-Version": "v1.0.0"})
    event, _ = health(monkeypatch, series(old), seconds=0.2, header="X-Version", version="v1.1.0")
    assert event["reason"] == "/health is not healthy: answered by v1.0.0 instead of v1.1.0"
    event, asked = health(monkeypatch, series(old, Answer(headers=NEW)), header="X-Version", version="v1.1.0")
    assert (event["verdict"], len(asked)) == (Verdict.PASS, 4)


def test_too_few_good_answers_in_time(monkeypatch):
    event, _ = health(monkeypatch, series(Answer()), seconds=0.0)
    assert event["reason"] == "/health is not healthy: only 1 good answers"


def test_nobody_there(monkeypatch):
    connect_to(monkeypatch, "web", host="127.0.0.1", port=9)
    trigger = HealthTrigger(check="health", connection="web", path="/health", deadline=time.time() + 0.2)
    (event,) = asyncio.run(events(trigger))
    assert event["verdict"] == Verdict.FAIL
    assert "no answer" in event["reason"]


def test_a_server_that_hangs(monkeypatch):
    monkeypatch.setattr("handover.checks.triggers.REQUEST_SECONDS", 0.2)

    def hang(_):
        time.sleep(0.6)
        return Answer()

    event, _ = health(monkeypatch, hang, seconds=0.3)
    assert event["verdict"] == Verdict.FAIL
    assert "no answer" in event["reason"]
