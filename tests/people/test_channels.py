"""Messages reach their channels, and a channel that is down never holds anything up."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

from pms.models.deployment import DeploymentState, Status
from pms.people import channels, messages
from pms.plan.load import load_plan
from pms.plan.model import INCLUDE

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
STATE = DeploymentState(
    deployment="run", generation=1, status=Status.DEPLOYING, version="v1.1.0", image="i", previous_version="v1.0.0",
    previous_image="j", old_colour="blue", new_colour="green", reason="r", started_at=0.0, rollback_reason="errors",
)  # fmt: skip


def test_the_start_is_announced_in_the_words_of_the_plan(told):
    assert channels.send(PLAN, messages.started(PLAN, STATE)) == []
    slack, page = told()
    assert slack["body"]["channel"] == "#pms-deployments"
    assert slack["body"]["text"].startswith("@here Starting production deployment v1.1.0\nExpected duration: 30-60 min")
    assert "<!here>" in slack["body"]["blocks"][0]["text"]["text"]
    assert page["body"]["incident"]["status"] == "in_progress"


def test_a_rollback_goes_to_the_incident_channel_with_its_reason(told):
    assert channels.send(PLAN, messages.rollback_initiated(PLAN, STATE)) == []
    assert told()[0]["body"]["channel"] == "#pms-incidents"
    assert "ROLLBACK INITIATED - v1.1.0" in told()[0]["body"]["text"]
    assert "Reason: errors" in told()[0]["body"]["text"]


@pytest.mark.parametrize(("switched_at", "users"), [(None, 0), (1.0, 1)])
def test_users_hear_of_a_rollback_only_when_they_could_have_seen_it(told, switched_at, users):
    state = STATE.model_copy(update={"switched_at": switched_at})
    assert channels.send(PLAN, messages.rolled_back(PLAN, state)) == []
    mails = json.dumps([call for call in told() if call["service"] == "smtp"])
    assert PLAN.messages.stakeholders[0] in mails
    assert (PLAN.messages.users[0] in mails) == bool(users)


def test_an_outage_is_said_and_raises_nothing(recorder, told):
    url = recorder.endpoints["recorder"]
    for service in ("slack", "statuspage"):
        httpx.put(f"{url}/answers/{service}", json={"status": 500, "body": {}}, trust_env=False).raise_for_status()
    undelivered = channels.send(PLAN, messages.started(PLAN, STATE))
    assert [text.partition(":")[0] for text in undelivered] == ["slack #pms-deployments", "status page"]


def test_a_channel_that_never_answers_costs_seconds_not_minutes(told, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        connection = {"conn_type": "slack", "password": "xoxb-secret", "extra": {"base_url": url}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SLACK", json.dumps(connection))
        began = time.monotonic()
        assert channels.send(PLAN, messages.rollback_initiated(PLAN, STATE))
        assert time.monotonic() - began < 2 * PLAN.messages.timeout_seconds


def test_a_missing_connection_is_an_undelivered_message(told, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_PMS_SLACK")
    assert channels.send(PLAN, messages.decided(PLAN, "phase 1", True, ["fine"]))


def test_the_ticket_has_a_key_and_a_due_date(told):
    assert channels.ticket(PLAN, "rolled back", "because", "2026-11-25").startswith("PMS-")
    (call,) = told()
    assert call["body"]["fields"]["duedate"] == "2026-11-25"


def test_without_the_ticket_system_the_reason_stands_in_for_the_key(recorder, told):
    url = recorder.endpoints["recorder"]
    httpx.put(f"{url}/answers/jira", json={"status": 503, "body": {}}, trust_env=False).raise_for_status()
    assert channels.ticket(PLAN, "rolled back", "because", "2026-11-25") == "none (HTTPError)"
