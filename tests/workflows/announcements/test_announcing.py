"""Which release is announced for which window, and what becomes of questions and of a release that is cancelled."""

from __future__ import annotations

import asyncio
import datetime
import json
import time

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from handover.coordination import state as states
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import DeploymentState, Status
from handover.models.message import ANNOUNCED_KEY, Announced
from handover.models.record import DECISION_KEY, MESSAGES_KEY
from handover.people import announcements as wording
from handover.workflows.announcements.steps import AskToConfirm, Moment, ReleaseToAnnounce, TellOf, announced_window
from handover.workflows.deployment.opening import release_due
from handover.workflows.deployment.request import BadRequest
from tests.support.task import Store, Ti, context_of
from tests.support.web import Answer, serving

NOW = datetime.datetime(2026, 11, 25, 9, 0, tzinfo=datetime.UTC)  # a Wednesday
DUE = {"version": "v1.1.0", "reason": "November release"}


@pytest.fixture
def due(monkeypatch):
    """Sets the Variable that names the release which is due."""
    return lambda value: monkeypatch.setenv("AIRFLOW_VAR_PMS_RELEASE_DUE", json.dumps(value))


@pytest.fixture
def people(monkeypatch):
    """Slack and the status page as one server that takes everything."""
    with serving(lambda asked: Answer(200, [] if asked.method == "GET" else {"ok": True})) as web:
        slack = {"conn_type": "slack", "password": "x", "extra": {"base_url": f"{web.url}/"}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SLACK", json.dumps(slack))
        page = {"conn_type": "http", "host": web.url, "password": "x"}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_STATUS_PAGE", json.dumps(page))
        nobody = {"conn_type": "smtp", "host": "127.0.0.1", "port": 1, "extra": {"disable_ssl": True}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SMTP", json.dumps(nobody))
        yield web


def texts(web):
    return [one.body["text"] for one in web.asked if one.path.endswith("chat.postMessage")]


def ti_of(opens, task_id="task", **more):
    known = Announced(version="v1.1.0", opens=opens, closes=opens + 4 * 3600)
    return Ti(task_id, {("release", ANNOUNCED_KEY): known.model_dump(mode="json")}, **more)


def announced(ti):
    return Announced.model_validate(ti.pushed[ANNOUNCED_KEY])


def test_by_hand_the_next_window_is_meant_unless_another_is_named(plan):
    opens, closes = announced_window(plan, None, NOW)
    assert (opens, closes - opens) == (datetime.datetime(2026, 12, 1, 14, tzinfo=datetime.UTC).timestamp(), 4 * 3600)
    opens, closes = announced_window(plan, "2026-11-26T20:00:00+01:00", NOW)
    assert (opens, closes - opens) == (datetime.datetime(2026, 11, 26, 19, tzinfo=datetime.UTC).timestamp(), 4 * 3600)


@pytest.mark.parametrize(
    ("start", "fault"),
    [
        ("tomorrow", "is no time"), ("2026-11-26T20:00:00", "has no time zone"), ("2026-11-25T08:59:00Z", "is over"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_meant_is_refused(plan, start, fault):
    with pytest.raises(BadRequest, match=fault):
        announced_window(plan, start, NOW)


def test_a_run_by_hand_announces_what_its_form_says(plan):
    ti, start = Ti(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    task = ReleaseToAnnounce(task_id="release", plan=plan)
    task.execute(context_of(ti, version="v1.1.0", window_start=start.isoformat()))
    assert announced(ti) == Announced(
        version="v1.1.0", opens=start.timestamp(), closes=start.timestamp() + 4 * 3600
    )  # fmt: skip


@pytest.mark.parametrize("version", [None, "latest", "1.1.0"])
def test_a_bad_version_is_refused(plan, version):
    with pytest.raises(AirflowFailException, match="semantic version"):
        ReleaseToAnnounce(task_id="release", plan=plan).execute(context_of(Ti(), version=version))


def test_a_scheduled_run_that_begins_late_means_the_window_of_its_schedule(in_cluster, plan, due):
    due(DUE)
    ti, moment = Ti(), datetime.datetime(2026, 11, 24, 14, tzinfo=datetime.UTC)
    ReleaseToAnnounce(task_id="release", plan=plan).execute(context_of(ti, run_type="scheduled", logical_date=moment))
    assert announced(ti).opens == datetime.datetime(2026, 12, 1, 14, tzinfo=datetime.UTC).timestamp()


def test_with_nothing_due_nobody_is_told(in_cluster, plan, due):
    due({})
    with pytest.raises(AirflowSkipException):
        ReleaseToAnnounce(task_id="release", plan=plan).execute(context_of(Ti(), run_type="scheduled"))


def state_of(status):
    return DeploymentState(
        deployment="run", generation=1, status=status, version="v1.1.0", image="i", previous_version="v1.0.0",
        previous_image="j", stable="blue", preview="green", reason="r", started_at=0.0,
    )  # fmt: skip


def test_what_is_being_deployed_is_not_announced_for_the_week_after(in_cluster, plan, due):
    due(DUE)
    in_cluster(lambda kube: states.write(kube, plan.lock_name, state_of(Status.DEPLOYING)))
    assert release_due(plan)["version"] == "v1.1.0"
    with pytest.raises(AirflowSkipException):
        release_due(plan, later=True)


def test_a_moment_to_come_is_waited_for_without_a_worker(plan):
    task, opens = Moment(task_id="moment", plan=plan, before_seconds=60, opened_by="release"), time.time() + 3660
    ti = ti_of(opens)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context_of(ti))
    trigger = deferred.value.trigger
    assert trigger.moment.timestamp() == pytest.approx(opens - 60)
    assert asyncio.run(first_event(type(trigger)(trigger.moment - datetime.timedelta(hours=2))))  # it has come
    getattr(task, deferred.value.method_name)(context_of(ti), None)
    assert ti.pushed[EVIDENCE_KEY]["verdict"] == "pass"


async def first_event(trigger):
    return await anext(trigger.run())


def test_a_moment_that_has_passed_goes_on_at_once(plan):
    ti = ti_of(time.time() + 600)
    Moment(task_id="moment", plan=plan, before_seconds=3600, opened_by="release").execute(context_of(ti))
    assert "after the moment" in ti.pushed[EVIDENCE_KEY]["reason"]


@pytest.mark.parametrize(
    ("now_due", "why"), [({}, "no release is due"), ({"version": "v1.2.0"}, "v1.2.0 is due instead")]
)
def test_a_release_that_is_not_due_any_more_is_cancelled_and_told(in_cluster, plan, due, people, now_due, why):
    due(now_due)
    ti = ti_of(time.time() + 600)
    task = Moment(task_id="moment", plan=plan, before_seconds=3600, opened_by="release")
    with pytest.raises(AirflowSkipException):
        task.execute(context_of(ti, Store(), run_type="scheduled"))
    (text,) = texts(people)
    assert "does not take place" in text and why in text
    assert [m["channel"] for m in ti.pushed[MESSAGES_KEY]] == ["slack #pms-deployments", "status page", "e-mail"]


def test_a_release_that_is_still_due_is_announced_on(in_cluster, plan, due, people):
    due(DUE)
    ti = ti_of(time.time() + 600)
    task = Moment(task_id="moment", plan=plan, before_seconds=3600, opened_by="release")
    task.execute(context_of(ti, run_type="scheduled"))
    assert not people.asked


def test_what_comes_late_is_told_until_the_window_begins(plan, people):
    ti = ti_of(time.time() + 600)
    task = TellOf(task_id="tell", plan=plan, message=wording.starting, opened_by="release")
    task.execute(context_of(ti))
    assert texts(people)[0].startswith("@here Deployment starting: ")
    assert ti.pushed[MESSAGES_KEY][0]["problem"] == ""


def test_after_that_it_is_recorded_as_skipped(plan, people):
    ti = ti_of(time.time() - 1)
    TellOf(task_id="tell", plan=plan, message=wording.starting, opened_by="release").execute(context_of(ti))
    assert not people.asked
    assert ti.pushed[MESSAGES_KEY][0]["problem"] == "skipped: too late, the window has begun"
    assert "not told" in ti.pushed[EVIDENCE_KEY]["reason"]


@pytest.fixture
def question(plan):
    return AskToConfirm(task_id="q", plan=plan, question="Are all there?", items=("All are there",))


def answered(question, ti, choice, by):
    event = {
        "chosen_options": [choice], "params_input": {}, "responded_at": datetime.datetime.now(datetime.UTC),
        "responded_by_user": by, "timedout": by is None,
    }  # fmt: skip
    question.execute_complete(context_of(ti, Store()), event)
    return ti.pushed[DECISION_KEY]


@pytest.mark.plan(
    "Team Size: 5-7 people",
    "1 Deployment Lead",
    "2 Backend Engineers",
    "1 Frontend Engineer",
    "1 Database Admin",
    "1 Operations/DevOps",
    "1 QA/Monitoring",
    "Runbooks updated",
    "Team trained",
    "Verify all team members available",
    "Final confirmation of deployment window",
)
def test_a_yes_is_a_decision_and_tells_nobody(question, people):
    decision = answered(question, ti_of(time.time() + 60, "q"), "Yes", {"id": "lead", "name": "Lea"})
    assert (decision["choice"], decision["who"]) == ("Yes", "Lea")
    assert not people.asked


@pytest.mark.plan("Verify all team members available", "Final confirmation of deployment window")
@pytest.mark.parametrize(
    ("by", "choice", "said"), [({"id": "lead", "name": "Lea"}, "No", "No by Lea"), (None, "no answer", "no answer by")]
)
def test_a_no_and_no_answer_are_told_and_change_nothing_else(question, people, by, choice, said):
    decision = answered(question, ti_of(time.time() + 60, "q"), "No", by)
    assert decision["choice"] == choice
    (text,) = texts(people)
    assert text.startswith("@here") and said in text


def test_a_question_that_comes_too_late_is_not_asked(question, people):
    ti = ti_of(time.time() - 1, "q")
    question.execute(context_of(ti, Store()))
    assert (ti.pushed[DECISION_KEY]["choice"], people.asked) == ("not asked", [])


def test_a_question_may_be_answered_by_its_role_only(question, plan):
    assert [user["id"] for user in question.assigned_users] == list(plan.team["lead"].users)
    assert question.defaults == ["No"]
    assert question.response_timeout.total_seconds() == plan.announcements.response_seconds
