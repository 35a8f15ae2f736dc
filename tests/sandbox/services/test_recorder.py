"""The recorder answers as each service would, with the clients that the product uses, and keeps every call."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from handover.checks.sources import ErrorTrackerSource
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from sandbox.services.connections import connections
from tests.support.steps import connect_to


@pytest.fixture
def slack(settings):
    return WebClient(token="xoxb-1", base_url=f"{settings.url('recorder')}/slack/api/")


def test_slack_web_api(recorder, slack):
    posted = slack.chat_postMessage(channel="#pms-deployments", text="@here Starting production deployment")
    assert posted["ok"]
    assert slack.chat_update(channel=posted["channel"], ts=posted["ts"], text="done")["ts"] == posted["ts"]
    assert slack.auth_test()["user"] == "deployer"
    assert [channel["name"] for channel in slack.conversations_list()["channels"]] == [
        "pms-deployments", "pms-incidents",
    ]  # fmt: skip
    first = recorder.get("/recorded", params={"service": "slack"}).json()[0]
    assert first["path"] == "/api/chat.postMessage"
    assert first["body"]["channel"] == "#pms-deployments"
    assert first["body"]["text"].startswith("@here")


def test_slack_refuses_a_message_to_nobody(recorder):
    answer = recorder.post("/slack/api/chat.postMessage", json={"text": "hello"}).json()
    assert answer == {"ok": False, "error": "channel_not_found"}


def test_slack_webhook(recorder, settings):
    assert WebhookClient(f"{settings.url('recorder')}/slack/services/T1/B1/x").send(text="hello").body == "ok"
    (call,) = recorder.get("/recorded", params={"service": "slack"}).json()
    assert (call["path"], call["body"]["text"]) == ("/services/T1/B1/x", "hello")


def test_no_token_is_kept(recorder, slack):
    slack.chat_postMessage(channel="#a", text="hello")
    recorder.post("/slack/api/chat.postMessage", data={"token": "xoxb-2", "channel": "#a", "text": "form"})
    recorder.get("/sentry/api/0/projects/a/b/issues/", headers={"Authorization": "Bearer secret-1"})
    kept = recorder.get("/recorded").text
    assert "form" in kept
    assert not [secret for secret in ("xoxb-1", "xoxb-2", "secret-1") if secret in kept]


def test_status_page_incidents_are_created_updated_and_listed(recorder):
    path = "/statuspage/v1/pages/pms/incidents"
    made = recorder.post(path, json={"incident": {"name": "Deployment", "status": "investigating"}})
    assert made.status_code == 201
    number = made.json()["id"]
    changed = recorder.patch(f"{path}/{number}", json={"incident": {"status": "resolved"}}).json()
    assert (changed["name"], changed["status"]) == ("Deployment", "resolved")
    assert changed in recorder.get(path).json()
    assert recorder.patch(f"{path}/unknown", json={}).status_code == 404


def test_the_status_page_lists_by_state_and_keeps_its_two_kinds_apart(recorder):
    path = "/statuspage/v1/pages/pms/incidents"
    times = {"scheduled_for": "2026-12-01T14:00:00Z", "scheduled_until": "2026-12-01T18:00:00Z"}
    planned = recorder.post(path, json={"incident": {"name": "a", "status": "scheduled", **times}}).json()
    happened = recorder.post(path, json={"incident": {"name": "b"}}).json()
    assert [one["id"] for one in recorder.get(path).json()][:2] == [happened["id"], planned["id"]]
    assert happened in recorder.get(f"{path}/unresolved").json()
    assert planned not in recorder.get(f"{path}/unresolved").json()
    assert planned in recorder.get(f"{path}/upcoming").json()
    wrong = recorder.patch(f"{path}/{planned['id']}", json={"incident": {"status": "investigating"}})
    assert (wrong.status_code, recorder.get(f"{path}/{planned['id']}").json()["status"]) == (422, "scheduled")
    assert recorder.post(path, json={"incident": {"name": "c", "status": "in_progress"}}).status_code == 422


def test_what_was_said_in_a_channel_is_found_there_with_its_metadata(recorder, slack):
    metadata = {"event_type": "pms_message", "event_payload": {"key": "k"}}
    posted = slack.chat_postMessage(channel="#pms-incidents", text="hello", metadata=metadata)
    found = slack.conversations_history(channel=posted["channel"], include_all_metadata=True)["messages"][0]
    assert (found["text"], found["metadata"], found["ts"]) == ("hello", metadata, posted["ts"])
    assert "metadata" not in slack.conversations_history(channel=posted["channel"])["messages"][0]
    later = str(float(posted["ts"]) + 1)
    assert slack.conversations_history(channel=posted["channel"], oldest=later)["messages"] == []
    assert slack.conversations_history(channel="Cother")["messages"] == []


def test_sentry_has_no_issues_until_told_so_and_again_afterwards(recorder):
    path = "/sentry/api/0/projects/ai-hotel/pms/issues/"
    assert recorder.get(path, params={"query": "is:unresolved"}).json() == []
    recorder.put("/answers/sentry", json={"status": 200, "body": [{"id": "1", "title": "TypeError"}]})
    assert recorder.get(path).json()[0]["title"] == "TypeError"
    recorder.delete("/answers/sentry")
    assert recorder.get(path).json() == []
    assert recorder.get("/recorded").json()[0]["query"] == {"query": "is:unresolved"}


def test_sentry_knows_every_release(recorder):
    assert recorder.get("/sentry/api/0/projects/ai-hotel/pms/releases/v1.1.0/").json() == {"status": "open"}


def test_the_watch_reads_its_issues_there(recorder, settings, monkeypatch):
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    connect_to(monkeypatch, "pms_sentry", **connections(settings)["pms_sentry"])

    async def new_errors():
        source = ErrorTrackerSource(plan, "v1.1.0")
        (found,) = await source.measure()
        await source.close()
        return found.value

    assert asyncio.run(new_errors()) == 0
    recorder.put("/answers/sentry", json={"path": "*/issues/", "body": [{"id": "1", "title": "TypeError"}]})
    assert asyncio.run(new_errors()) == 1


def test_an_outage_is_recorded_all_the_same(recorder, slack):
    recorder.put("/answers/slack", json={"status": 503, "body": "down for maintenance"})
    with pytest.raises(SlackApiError):
        slack.chat_postMessage(channel="#a", text="hello")
    assert len(recorder.get("/recorded").json()) == 1


def test_prometheus_knows_how_busy_this_machine_is(recorder):
    answer = recorder.get("/prometheus/api/v1/query", params={"query": "1 - rate(idle[1m])"}).json()
    (series,) = answer["data"]["result"]
    assert 0 <= float(series["value"][1]) <= 1


def test_jira_gives_every_issue_its_own_key(recorder):
    fields = {"project": {"key": "PMS"}, "issuetype": {"name": "Incident"}, "summary": "Rolled back"}
    keys = [recorder.post("/jira/rest/api/2/issue", json={"fields": fields}).json()["key"] for _ in range(2)]
    assert keys[0] != keys[1]
    assert all(key.startswith("PMS-") for key in keys)
    assert recorder.post("/jira/rest/api/2/issue", json={"fields": {}}).status_code == 400


def opened(recorder, where="/jira/rest/api/2/issue", **fields):
    usual = {"project": {"key": "PMS"}, "issuetype": {"name": "Task"}, "summary": "s", "labels": ["a-label"]}
    return recorder.post(where, json={"fields": usual | fields})


@pytest.mark.parametrize(
    ("where", "mine", "others", "gone"),
    [
        ("/jira", "/rest/api/2/search", "/rest/api/3/search/jql", 404),
        ("/jira-cloud", "/rest/api/3/search/jql", "/rest/api/2/search", 410),
    ],
)
def test_each_kind_of_jira_finds_a_ticket_by_its_label_on_its_own_path(recorder, where, mine, others, gone):
    label = f"label-{uuid.uuid4().hex}"
    asked = {"jql": f'project = "PMS" AND labels = "{label}"', "fields": ["key"]}
    first, second = (opened(recorder, f"{where}/rest/api/2/issue", labels=[label]).json()["key"] for _ in range(2))
    assert [one["key"] for one in recorder.post(f"{where}{mine}", json=asked).json()["issues"]] == [second, first]
    assert recorder.get(f"{where}{mine}", params={"jql": asked["jql"]}).json()["issues"][1]["key"] == first
    assert recorder.post(f"{where}{others}", json=asked).status_code == gone
    change = {"update": {"labels": [{"remove": label}, {"add": "double"}]}}
    assert recorder.put(f"{where}/rest/api/2/issue/{second}", json=change).status_code == 204
    assert [one["key"] for one in recorder.post(f"{where}{mine}", json=asked).json()["issues"]] == [first]
    assert recorder.delete(f"{where}/rest/api/2/issue/{first}").status_code == 204
    assert recorder.post(f"{where}{mine}", json=asked).json()["issues"] == []
    assert recorder.delete(f"{where}/rest/api/2/issue/{first}").status_code == 404


def test_jira_tells_its_kind_and_what_is_wrong_with_a_ticket(recorder):
    for where, kind in (("/jira", "Server"), ("/jira-cloud", "Cloud")):
        assert recorder.get(f"{where}/rest/api/2/serverInfo").json()["deploymentType"] == kind
    refused = opened(recorder, issuetype={"name": "Epic"})
    assert (refused.status_code, refused.json()["errors"]) == (
        400, {"issuetype": "The issue type selected is invalid."}
    )  # fmt: skip
    assert "Document" in opened(recorder, "/jira-cloud/rest/api/3/issue", description="text").text
    document = {"type": "doc", "version": 1, "content": []}
    assert opened(recorder, "/jira-cloud/rest/api/3/issue", description=document).status_code == 201


def test_datadog_takes_events(recorder):
    assert recorder.post("/datadog/api/v1/events", json={"title": "deployed"}).status_code == 202


def test_an_unknown_service_is_an_error_and_not_recorded(recorder):
    assert recorder.post("/teams/hook", json={}).status_code == 404
    assert recorder.get("/recorded").json() == []


def test_what_is_only_asked_answers_from_the_file_and_can_be_overridden_by_path(recorder):
    runs = "/github/repos/ai-hotel/pms/commits/v1.1.0/check-runs"
    pulls = "/github/repos/ai-hotel/pms/commits/abc/pulls"
    assert recorder.get(runs).json()["check_runs"][0]["name"] == "snyk"
    limited = {"path": "*/check-runs", "status": 403, "body": {}, "headers": {"Retry-After": "60"}}
    recorder.put("/answers/github", json=limited)
    answer = recorder.get(runs)
    assert (answer.status_code, answer.headers["Retry-After"]) == (403, "60")
    assert recorder.get(pulls).json()[0]["number"] == 41
    recorder.delete("/answers/github")
    assert recorder.get(runs).status_code == 200
    assert recorder.get("/github/repos/somebody/else/pulls").status_code == 404
