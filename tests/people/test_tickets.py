"""Tickets of the follow-ups are opened once, and one that cannot be opened is not lost in silence."""

from __future__ import annotations

import json
import re
import uuid

import httpx
import pytest
import requests

from handover.people import channels, tickets
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from sandbox.stack import Sandbox

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with Sandbox(tmp_path_factory.mktemp("tickets") / "home", only=["recorder"]) as sandbox:
        yield sandbox.endpoints["recorder"]


@pytest.fixture
def told(url, monkeypatch):
    jira = {"conn_type": "http", "host": f"{url}/jira", "login": "me", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_JIRA", json.dumps(jira))
    httpx.delete(f"{url}/recorded", trust_env=False)
    yield lambda: httpx.get(f"{url}/recorded", trust_env=False).json()
    httpx.delete(f"{url}/answers/jira", trust_env=False)


def test_a_label_is_one_word_and_one_per_purpose_and_deployment():
    run = "manual__2026-11-18T14:00:00+00:00"
    labels = {tickets.label(p, d) for p in ("runbooks", "analysis") for d in (run, f"{run}1")}
    assert len(labels) == 4 and all(re.fullmatch(r"pms-[a-z]+-[0-9a-f]{16}", one) for one in labels)
    assert tickets.label("runbooks", run) == tickets.label("runbooks", run)


def test_the_second_time_finds_the_first_ones_ticket(told):
    mark = tickets.label("runbooks", str(uuid.uuid4()))
    key, new = tickets.open_once(PLAN, mark, "update runbooks", "because", "2026-11-25")
    assert new and key.startswith("PMS-")
    assert tickets.open_once(PLAN, mark, "update runbooks", "because", "2026-11-25") == (key, False)
    opened = [call["body"]["fields"] for call in told() if call["path"].endswith("/issue")]
    assert [(o["labels"], o["duedate"]) for o in opened] == [([mark], "2026-11-25")]


def test_the_rollbacks_own_ticket_is_the_post_mortems(told):
    mark = tickets.label(tickets.POST_MORTEM, str(uuid.uuid4()))
    key = channels.ticket(PLAN, "rolled back", "because", "2026-11-25", mark)
    assert tickets.open_once(PLAN, mark, "post-mortem", "", "2026-11-25") == (key, False)


def test_a_ticket_system_that_is_away_raises_so_that_it_is_tried_again(url, told):
    httpx.put(f"{url}/answers/jira", json={"status": 503, "body": {}}, trust_env=False).raise_for_status()
    with pytest.raises(requests.HTTPError):
        tickets.open_once(PLAN, tickets.label("runbooks", "x"), "s", "d", "2026-11-25")
