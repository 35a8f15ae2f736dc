"""Messages reach their channels, and a channel that is down never holds anything up."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest

from handover.models import incident
from handover.models.deployment import DeploymentState, Status
from handover.models.followup import Ended
from handover.models.incident import Resolution, Severity
from handover.people import channels, messages, tickets
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.channel import NewTicket
from tests.support.steps import connect_to
from tests.support.task import Ti, context_of
from tests.support.web import silent

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
STATE = DeploymentState(
    deployment="run", generation=1, status=Status.DEPLOYING, version="v1.1.0", image="i", previous_version="v1.0.0",
    previous_image="j", stable="blue", preview="green", reason="r", started_at=0.0, rollback_reason="errors",
)  # fmt: skip
BACK = STATE.model_copy(update={"switched_at": 47_300.0, "back_at": 47_311.4})
"""13:08:31 UTC."""


def tell(message):
    return channels.tell(context_of(Ti()), PLAN, message)


@pytest.mark.plan(
    "Create maintenance page (if needed)",
    "@here Starting production deployment",
    "Expected duration: 30-60 minutes",
    "Status: https://status.pms.example.com",
)
def test_the_start_is_announced_in_the_words_of_the_plan(told, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    assert tell(messages.started(PLAN, STATE)) == []
    (slack,) = told.posts()
    assert slack["channel"] == "#pms-deployments"
    assert slack["text"].startswith("@here Starting production deployment v1.1.0\nExpected duration: 30-60 min")
    header, text, fields, links = slack["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "Deployment in progress"}
    assert text["text"]["text"].startswith("<!here> Starting")
    assert {"type": "mrkdwn", "text": "*Previous version*\nv1.0.0"} in fields["fields"]
    assert "<https://airflow.example.com/dags/pms_announcements/runs/scheduled__2026" in links["elements"][0]["text"]
    assert f"<{PLAN.messages.status_page_url}|Status page>" in links["elements"][0]["text"]
    (page,) = told("statuspage", "POST")
    assert page["body"]["incident"]["status"] == "in_progress"


@pytest.mark.parametrize(("switched_at", "since"), [(47_300.0, " since 13:08:20 UTC"), (None, "")])
def test_the_team_is_told_of_the_switch_with_both_versions_and_since_when(switched_at, since):
    said = messages.switched(PLAN, STATE.model_copy(update={"switched_at": switched_at}))
    assert f"clients meet v1.1.0 on green{since}; v1.0.0 stands by on blue." in said.slack
    assert [one.channel for one in channels.letters(PLAN, said, "run")] == ["slack #pms-deployments"]


@pytest.mark.parametrize("dag_id", [PLAN.deployment_dag_id, PLAN.rollback_dag_id])
def test_what_is_said_of_a_deployment_leads_to_its_page(told, monkeypatch, dag_id):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/ops/")
    ti = Ti()
    ti.dag_id = dag_id
    channels.tell(context_of(ti), PLAN, messages.switched(PLAN, STATE))
    (slack,) = told.posts()
    page = f"<https://airflow.example.com/ops/handover/runs/{dag_id}/scheduled__2026-11-24T14%3A00%3A00%2B00%3A00|"
    assert f"{page}What goes on>" in slack["blocks"][-1]["elements"][0]["text"]


@pytest.mark.parametrize("message", [messages.started, messages.taken_back, messages.rolled_back])
def test_the_status_page_is_told_no_reason_and_calls_nobody(message):
    shown = [one for one in channels.letters(PLAN, message(PLAN, BACK), "run") if one.kind == "status page"]
    assert len(shown) == 1
    assert "@here" not in shown[0].text and "errors" not in shown[0].text


@pytest.mark.plan(
    "Slack: @here ROLLBACK INITIATED",
    "Reason: [brief description]",
    "ETA: 10-15 minutes to previous version",
    "Immediate Slack notification",
)
def test_a_rollback_goes_to_the_incident_channel_with_its_reason(told):
    assert tell(messages.taken_back(PLAN, BACK)) == []
    assert told()[0]["body"]["channel"] == "#pms-incidents"
    assert told()[0]["body"]["text"].splitlines() == [
        "@here ROLLBACK INITIATED - v1.1.0 deployment",
        "Traffic is back on blue (v1.0.0) since 13:08:31 UTC. Verification takes 10 minutes.",
        "Reason: errors",
    ]
    (page,) = told("statuspage", "POST")
    assert "again, since 13:08:31 UTC. We are verifying it." in page["body"]["incident"]["body"]


def test_at_the_end_of_a_rollback_people_hear_since_when_it_has_been_good():
    said = messages.rolled_back(PLAN, BACK)
    assert "v1.0.0 serves again, since 13:08:31 UTC, and is verified by now" in said.slack
    assert said.public.endswith("again, since 13:08:31 UTC. This is verified.")
    unknown = messages.rolled_back(PLAN, BACK.model_copy(update={"back_at": None}))
    assert "v1.0.0 serves again, and is verified by now" in unknown.slack


@pytest.mark.parametrize("announced", [False, True])
def test_what_was_stopped_before_the_switch_is_told_to_the_team_alone(told, announced):
    state = STATE.model_copy(update={"announced": announced})
    assert tell(messages.taken_back(PLAN, state)) == []
    (slack,) = told.posts()
    assert len(told()) == 1
    assert slack["channel"] == "#pms-deployments"
    assert slack["text"].splitlines()[1:] == ["Reason: errors"]
    assert "v1.1.0 is STOPPED before the switch; nothing moved: v1.0.0 served on blue all the time." in slack["text"]
    letters = channels.letters(PLAN, messages.rolled_back(PLAN, state), "run")
    assert [(one.kind, one.page.status) for one in letters] == [("status page", "completed")] * announced


def test_success_promises_no_end_of_a_watch_that_still_looks():
    said = messages.succeeded(PLAN, STATE)
    assert said.slack.endswith("v1.1.0 is deployed: every check passed, and no watch takes it back any more.")
    assert (said.status_page, said.to_stakeholders) == ("completed", True)


def test_what_the_watch_took_back_is_told_before_the_rollback_has_begun_and_to_the_team_alone():
    found = incident.began("error_rate", "30 % fail", Severity.CRITICAL, 1.0, Resolution.ROLLED_BACK)
    said = messages.incident_began(PLAN, BACK, found.then(1.2, "traffic is back on blue"))
    assert said.slack.splitlines() == [
        "CRITICAL incident after v1.1.0: 30 % fail", "Traffic is back on blue; the rollback does the rest.",
    ]  # fmt: skip
    assert [one.channel for one in channels.letters(PLAN, said, "run")] == ["slack #pms-incidents"]


def test_how_late_a_rollback_was_counts_to_when_traffic_was_back_not_to_when_it_is_told():
    state = BACK.model_copy(update={"switched_at": BACK.back_at - 2400})
    assert "40 minutes after the switch (the plan decides within 30)" in messages.taken_back(PLAN, state, 1e9).slack
    assert "after the switch" not in messages.taken_back(PLAN, BACK, now=1e9).slack


@pytest.mark.plan("Notify stakeholders", "Notify users via email if necessary", "Customer communication if needed")
@pytest.mark.parametrize(("state", "mailed"), [(STATE, False), (BACK, True)])
def test_stakeholders_and_users_hear_of_a_rollback_only_when_they_could_have_seen_it(told, state, mailed):
    assert tell(messages.rolled_back(PLAN, state)) == []
    mails = json.dumps([call for call in told() if call["service"] == "smtp"])
    assert (PLAN.messages.stakeholders[0] in mails) == (PLAN.messages.users[0] in mails) == mailed


ENDED = Ended(
    deployment="run", version="v1.1.0", previous_version="v1.0.0", outcome=Status.SUCCEEDED, at=0.0, incidents=2,
)  # fmt: skip


@pytest.mark.plan("Thank the team, celebrate success!")
def test_the_team_is_thanked_with_the_figures(told):
    assert tell(messages.thanks(PLAN, ENDED, "https://report")) == []
    (slack,) = told.posts()
    assert slack["channel"] == "#pms-deployments"
    assert slack["text"].startswith("Thank you, team: ")
    assert "incidents: 2" in slack["text"] and "https://report" in slack["text"]


@pytest.mark.plan("Share learnings with wider organization")
def test_what_was_learned_reaches_the_team_and_the_stakeholders(told):
    assert tell(messages.learnings(PLAN, ENDED, "https://report")) == []
    assert "what we learned: https://report" in told.posts()[0]["text"]
    (mail,) = told("smtp")
    assert mail["body"]["to"] == list(PLAN.messages.stakeholders)
    assert mail["body"]["subject"].endswith("what we learned")


def test_an_outage_is_said_and_raises_nothing(told):
    told.away("slack", "statuspage", status=500)
    undelivered = tell(messages.started(PLAN, STATE))
    assert [text.partition(":")[0] for text in undelivered] == ["slack #pms-deployments", "status page"]


def test_a_mail_server_that_never_answers_is_waited_for_as_long_as_the_plan_says(told, monkeypatch, waited):
    with silent() as (host, port):
        extra = {"disable_ssl": True, "disable_tls": True}
        connect_to(monkeypatch, "pms_smtp", conn_type="smtp", host=host, port=port, extra=extra)
        (letter,) = [
            one for one in channels.letters(PLAN, messages.succeeded(PLAN, STATE), "r") if one.kind == "e-mail"
        ]
        assert not channels.deliver(PLAN, letter, look=False).delivered
    assert waited == [PLAN.messages.timeout_seconds]


def test_a_channel_that_never_answers_is_waited_for_as_long_as_the_plan_says(told, monkeypatch, waited):
    with silent() as (host, port):
        extra = {"base_url": f"http://{host}:{port}/"}
        connect_to(monkeypatch, "pms_slack", conn_type="slack", password="xoxb-secret", extra=extra)
        assert tell(messages.taken_back(PLAN, STATE))
    assert set(waited) == {PLAN.messages.timeout_seconds}


def test_a_missing_connection_is_an_undelivered_message(told, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_PMS_SLACK")
    assert tell(messages.decided(PLAN, "phase 1", True, ["fine"]))


ROLLED_BACK = NewTicket("pms-post-mortem-1", "Incident", "rolled back", "because", "2026-11-25")


@pytest.mark.plan("Create incident ticket in Jira")
def test_the_ticket_has_a_key_and_a_due_date(told):
    wanted = replace(ROLLED_BACK, label=f"pms-test-{uuid.uuid4().hex}")
    assert tickets.key_or_reason(PLAN, wanted).startswith("PMS-")
    _, opened, _ = told()
    assert opened["body"]["fields"]["duedate"] == "2026-11-25"
    assert opened["body"]["fields"]["issuetype"] == {"name": "Incident"}


def test_without_the_ticket_system_the_reason_stands_in_for_the_key(told, monkeypatch):
    told.away("jira")
    said = "none (POST /rest/api/2/search: 503 Service Unavailable)"
    assert tickets.key_or_reason(PLAN, ROLLED_BACK) == said
    monkeypatch.delenv("AIRFLOW_CONN_PMS_JIRA")
    assert tickets.key_or_reason(PLAN, ROLLED_BACK) == "none (AirflowNotFoundException)"
