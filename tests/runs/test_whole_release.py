"""A release from one week before to one week after, with the plan's time compressed: everything that people hear and
are asked, in the order of the plan, and the record of it.
"""

from __future__ import annotations

import datetime
import threading
import time

import httpx
import psycopg
import pytest

from sandbox import rehearsal
from sandbox.hotel.releases import release
from sandbox.readying import get_ready
from tests.runs import reading

pytestmark = [pytest.mark.run, pytest.mark.slow]
ANNOUNCEMENTS, FOLLOW_UPS = "pms_announcements", "pms_followups"
WINDOW_SECONDS = 75
"""From now to the start of the window: the announcements of the compressed plan begin 40 s before it."""


@pytest.fixture
def follow_ups(team):
    """They wait while other tests run; here they come by themselves, with the asset of the deployment's end."""
    known = {run["dag_run_id"] for run in team.admin.runs(FOLLOW_UPS)}
    team.admin.pause(FOLLOW_UPS, False)
    yield lambda: [run for run in team.admin.runs(FOLLOW_UPS) if run["dag_run_id"] not in known]
    team.admin.pause(FOLLOW_UPS)


def answer_yes(team, dag_id, run_id, done) -> None:
    """Everybody says Yes to what is asked of them, as their own user, until `done` is set."""
    admin = team.admin_of()
    while not done.wait(1):
        for question in team.thought_over(admin.questions(dag_id, run_id)):
            fields = dict.fromkeys(question["params"] or {}, "it was calm")
            team.roles[question["assigned_users"][0]["id"]].answer(question, ["Yes"], fields)


def through(team, dag_id, run_id, seconds):
    """The run once it has ended, with every question answered."""
    done = threading.Event()
    answering = threading.Thread(target=answer_yes, args=(team, dag_id, run_id, done))
    answering.start()
    try:
        return team.admin.wait_for_run(dag_id, run_id, seconds)
    finally:
        done.set()
        answering.join()


def announced(team, version):
    """A week, a day and a quarter of an hour before; gives the run."""
    opens = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=WINDOW_SECONDS)
    run_id = team.roles["lead"].trigger(
        ANNOUNCEMENTS, {"version": version, "window_start": opens.isoformat(timespec="seconds")}
    )
    assert through(team, ANNOUNCEMENTS, run_id, 180) == "success"
    return run_id


def followed_up(team, follow_ups):
    """The one run that the end of the deployment has started, once it is over; gives its id."""
    deadline = time.monotonic() + 60
    while not (found := follow_ups()):
        assert time.monotonic() < deadline, "no follow-ups came"
        time.sleep(0.5)
    (run,) = found
    through(team, FOLLOW_UPS, run["dag_run_id"], 240)
    return run["dag_run_id"]


def said(recorded) -> list[str]:
    """What left the house, oldest first: the beginning of each message with its channel."""
    found = []
    for call in sorted(recorded(), key=lambda call: call["at"]):
        body = call["body"] or {}
        if call["service"] == "slack" and "text" in body:
            found.append(f"slack: {body['text']}")
        elif call["service"] == "smtp":
            found.append(f"e-mail: {body['subject']}")
        elif call["service"] == "statuspage" and call["method"] in ("POST", "PATCH"):
            found.append(f"page: {body['incident']['status']}")
        elif call["service"] == "jira" and call["path"].endswith("/issue"):
            found.append(f"ticket: {body['fields']['summary']}")
    return found


def in_order(texts: list[str], wanted: list[str]) -> list[str]:
    """Those of `wanted` that are not said in this order; empty when the story is whole."""
    rest = iter(texts)
    return [one for one in wanted if not any(one in text for text in rest)]


def redelivered(endpoints, run_id) -> list[str]:
    """What came late of a run's messages, by the record."""
    with psycopg.connect(endpoints["postgres"]["record"]) as connection:
        query = (
            "SELECT text FROM messages WHERE deployment = %s AND run LIKE 'redelivery%%' AND problem = '' ORDER BY at"
        )
        return [text for (text,) in connection.execute(query, (run_id,)).fetchall()]


@pytest.fixture(scope="module")
def staging(sandbox):
    settings = sandbox.settings
    dsn = settings.dsn("metadata", "pms_staging", "pms", settings.secrets.pms)
    with psycopg.connect(dsn, autocommit=True) as connection:
        rehearsal.on_staging(connection, release("v1.1.2").migrations)


@pytest.mark.plan("Real-time Slack updates during deployment", "Email update: Deployment completed successfully")
@pytest.mark.usefixtures("staging", "guests")
def test_a_release_goes_from_one_week_before_to_one_week_after(
    team, production, endpoints, sandbox, recorded, follow_ups
):
    before = announced(team, "v1.1.2")
    assert get_ready(team, "v1.1.2").state == "success"
    outcome = team.deploy("v1.1.2", readiness_override_reason=None)
    assert outcome.outcome == "succeeded", outcome
    after = followed_up(team, follow_ups)
    story = said(recorded)
    print("\n".join(line.replace("\n", " | ")[:150] for line in story))
    assert in_order(story, [
        "e-mail: Deployment scheduled", "slack: Reminder:", "slack: @here Deployment starting",
        "phase_1_pre_deployment: proceed", "slack: @here Starting production deployment v1.1.2",
        "phase_2_application_deployment: proceed", "phase_3_database_migration: proceed",
        "phase_4_post_deployment_testing: proceed", "is deployed: every check passed",
    ]) == []  # fmt: skip
    assert in_order(story, ["page: scheduled", "page: in_progress", "page: completed"]) == []
    assert story.count("page: scheduled") == story.count("page: in_progress") == story.count("page: completed") == 1
    for once in ("e-mail: Maintenance window planned", "ticket: ", "deployment completed successfully"):
        assert [text for text in story if once in text], once
    assert not [text for text in story if "post-mortem" in text.lower() and text.startswith("ticket")]
    states = team.admin.task_states(FOLLOW_UPS, after)
    assert {states["within_24_hours.analysis_of_issues"], states["within_1_week.post_mortem"]} == {"skipped"}
    assert set(states.values()) == {"success", "skipped"}, states
    record = reading.read(endpoints, outcome.run_id, "within_1_week.update_deployment_log")
    answers = {d.question: (d.choice, d.who) for d in record.decisions}
    assert answers["Team debriefing held?"] == ("Yes", "lead")
    assert answers["User adoption smooth?"] == ("Yes", "qa")
    assert set(reading.rows(endpoints, "decisions", before, "question", "choice", "who")) == {
        ("Are all team members available?", "Yes", "lead"), ("Does the deployment window stand?", "Yes", "lead"),
    }  # fmt: skip
    report = reading.stored(sandbox, outcome.run_id, "md")
    assert "it was calm" in report
    judged = [line for line in report.splitlines() if line.startswith("| ")]
    assert not [line for line in judged if line.startswith(("| ? not yet known", "| ✗ failed"))], report
    secrets = reading.secrets_of(endpoints)
    everything = "\n".join([report, *story, *team.logs(FOLLOW_UPS, after).values()])
    assert not [secret for secret in secrets if secret in everything]


@pytest.mark.plan("Rollback procedure tested", "Post-mortem scheduled")
@pytest.mark.usefixtures("guests")
def test_a_release_that_is_rolled_back_is_followed_up_with_a_post_mortem(
    team, production, endpoints, sandbox, recorded, follow_ups
):
    serving = production.serving()
    outcome = team.deploy("v1.2.0")
    assert outcome.outcome == "rolled_back", outcome
    assert production.serving() == serving
    after = followed_up(team, follow_ups)
    story = said(recorded)
    print("\n".join(line.replace("\n", " | ")[:150] for line in story))
    assert in_order(story, [
        "slack: @here Starting production deployment v1.2.0", "slack: @here ROLLBACK INITIATED - v1.2.0",
        "serves again",
    ]) == []  # fmt: skip
    assert [text for text in story if text.startswith("ticket: ") and "was rolled back" in text]
    assert [text for text in story if text.startswith("e-mail: ") and "rolled back to" in text]
    assert in_order(story, ["page: investigating", "page: resolved"]) == []
    states = team.admin.task_states(FOLLOW_UPS, after)
    assert states["within_1_week.post_mortem"] == "success"
    assert "exists already" in team.admin.log(FOLLOW_UPS, after, "within_1_week.post_mortem")
    record = reading.read(endpoints, outcome.run_id, "within_1_week.update_deployment_log")
    assert record.outcomes[-1].status == "rolled_back"
    assert [entry.kind for entry in record.incidents][-1] == "resolved"
    report = reading.stored(sandbox, outcome.run_id, "md")
    assert "rolled_back" in report or "rolled back" in report
    unexpected = [c for c in record.checks if c.step == "within_1_week.no_unexpected_issues"]
    assert [c.verdict for c in unexpected] == ["fail"]


def test_a_message_that_a_dead_channel_lost_comes_once_when_it_is_back(team, endpoints, recorded):
    """The announcements go on; what Slack did not take is delivered by itself, and no second time."""
    url = f"{endpoints['recorder']}/answers/slack"
    httpx.put(url, json={"status": 503, "body": {}}, trust_env=False).raise_for_status()
    try:
        opens = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=35)
        run_id = team.roles["lead"].trigger(
            ANNOUNCEMENTS, {"version": "v1.1.2", "window_start": opens.isoformat(timespec="seconds")}
        )
        done = threading.Event()
        answering = threading.Thread(target=answer_yes, args=(team, ANNOUNCEMENTS, run_id, done))
        answering.start()
        time.sleep(20)
    finally:
        httpx.delete(url, trust_env=False).raise_for_status()
    assert team.admin.wait_for_run(ANNOUNCEMENTS, run_id, 120) == "success"
    done.set()
    answering.join()
    for run in team.admin.runs("pms_redelivery"):
        team.admin.wait_for_run("pms_redelivery", run["dag_run_id"], 120)
    kept = reading.rows(endpoints, "messages", run_id, "text", "problem")
    reminders = [problem for text, problem in kept if text.startswith("Reminder:")]
    assert reminders and all(reminders)  # why it was not delivered while Slack was away
    late = [m for m in redelivered(endpoints, run_id) if m.startswith("Reminder:")]
    assert len(late) == 1, late
