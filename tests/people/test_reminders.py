"""The reminder beside a question: its trigger in an event loop, and the whole task as Airflow runs it, in virtual time.

What Airflow itself answers (the state of the question) is a stand-in; Slack is the recorder.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from handover import clock
from handover.models.record import MESSAGES_KEY
from handover.people.operators import Confirm
from handover.people.question import Remind
from handover.people.triggers import LOOK_SECONDS, QuestionTrigger
from tests.support.cluster import plan_with
from tests.support.steps import RUN_ID, events

QUESTION = "phase_1.team_briefing"


class Airflow:
    """Answers what state the question is in; fails so many times first."""

    def __init__(self, state: str | None = "awaiting_input", away: int = 0) -> None:
        self.state, self.away, self.asked = state, away, 0

    def send(self, message: GetTaskStates) -> TaskStatesResult:
        self.asked += 1
        if self.asked <= self.away:
            raise ConnectionError("no answer")
        assert (message.dag_id, message.task_ids, message.run_ids) == ("shop", [QUESTION], [RUN_ID])
        return TaskStatesResult(task_states={RUN_ID: {QUESTION: self.state}})


@pytest.fixture
def airflow(monkeypatch):
    found = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


def trigger(at: float) -> QuestionTrigger:
    return QuestionTrigger(dag_id="shop", run_id=RUN_ID, task_id=QUESTION, at=at)


@pytest.fixture
def waited(virtual_time):
    """Runs the trigger of a moment so many seconds from now; gives its event and after how many seconds it came."""

    def wait(seconds: float) -> tuple[Any, float]:
        begun = virtual_time.now
        (event,) = asyncio.run(events(trigger(clock.epoch() + seconds), seconds=1e6))
        return event, virtual_time.now - begun

    return wait


def test_it_wakes_at_its_moment_and_not_before(airflow, waited):
    assert waited(33) == ({"waiting": True}, pytest.approx(33))


@pytest.mark.parametrize("state", ["success", "failed", "upstream_failed", "skipped", "removed"])
def test_an_answered_question_ends_the_wait_at_once(airflow, waited, state):
    airflow.state = state
    assert waited(60) == ({"waiting": False}, 0)


def test_another_triggerer_goes_on_with_the_same_moment(airflow, waited):
    assert waited(-30) == ({"waiting": True}, 0)


def test_a_question_that_is_not_asked_yet_is_not_reminded_of(airflow, virtual_time):
    airflow.state = "queued"

    async def later() -> list[Any]:
        found = asyncio.create_task(events(trigger(clock.epoch() - 1), seconds=1e6))
        await asyncio.sleep(100)
        assert not found.done()
        airflow.state = "awaiting_input"
        return await found

    assert asyncio.run(later()) == [{"waiting": True}]


def test_an_airflow_that_does_not_answer_is_asked_again(airflow, waited):
    airflow.away = 3
    assert waited(0) == ({"waiting": True}, 3 * LOOK_SECONDS)
    assert airflow.asked == 4


class Ti:
    """The reminder's task instance: what it left, which stays while it is deferred."""

    task_id, map_index = "remind", -1

    def __init__(self) -> None:
        self.left: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        assert task_ids == self.task_id
        return self.left.get(key)


@pytest.fixture
def reminder(tmp_path, monkeypatch, virtual_time) -> Remind:
    """Of a briefing that waits for an hour, with reminders all along."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.com")
    plan = plan_with(
        tmp_path, briefing={"response_seconds": 3600}, asking={"reminders": [0.2, 0.6], "escalates_at": 0.4}
    )  # fmt: skip
    with DAG("shop"):
        briefing = Confirm(task_id=QUESTION, plan=plan, question=plan.briefing, subject="Ready?")
        return Remind(task_id="remind", plan=plan, question=briefing)


def run(task: Remind, ti: Ti, between=lambda: None) -> tuple[str, int]:
    """What the task returns, and how many times it was deferred."""
    context: Any = {"run_id": RUN_ID, "ti": ti}
    deferred = 0
    step = lambda: task.execute(context)  # noqa: E731
    while True:
        try:
            return step(), deferred
        except TaskDeferred as wait:
            deferred += 1
            (event,) = asyncio.run(events(wait.trigger, seconds=1e6))
            method, kwargs = getattr(task, wait.method_name), wait.kwargs or {}
            step = lambda: method(context, event=event, **kwargs)  # noqa: B023, E731
        between()


def test_each_reminder_is_said_once_and_kept_for_the_record(airflow, reminder, told):
    ti = Ti()
    assert run(reminder, ti) == ("every reminder was sent", 3)
    texts = [one["body"]["text"] for one in told()]
    link = f"http://airflow.example.com/dags/shop/runs/{RUN_ID}/tasks/{QUESTION}/required_actions"
    assert [text.partition(":")[0] for text in texts] == [
        "Deployment Lead (lead)", "@here CTO (cto), it is your turn", "Deployment Lead (lead) or CTO (cto)",
    ]  # fmt: skip
    assert all(link in text for text in texts)
    assert [one["text"] for one in ti.left[MESSAGES_KEY]] == texts


def test_an_answer_ends_it_before_the_next_reminder(airflow, reminder, told):
    def answered() -> None:
        if told():
            airflow.state = "success"

    ti = Ti()
    assert run(reminder, ti, between=answered)[0] == "the question does not wait any more"
    assert len(ti.left[MESSAGES_KEY]) == len(told()) == 2  # the second was under way; the third is not sent


def test_a_channel_that_is_down_ends_nothing(airflow, reminder, told):
    told.away("slack", status=500)
    ti = Ti()
    assert run(reminder, ti)[0] == "every reminder was sent"
    assert [bool(one["problem"]) for one in ti.left[MESSAGES_KEY]] == [True, True, True]


def test_whatever_breaks_while_reminding_ends_nothing(airflow, reminder, told, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")  # there is no link to the question
    assert run(reminder, Ti())[0] == "every reminder was sent"
    assert told() == []


@pytest.mark.plan("Deployment Lead | Coordinates entire deployment", "QA/Monitoring | Real-time monitoring")
def test_the_role_above_may_answer_from_the_start(tmp_path):
    plan = plan_with(tmp_path)
    question = Confirm(task_id="ask", plan=plan, question=plan.acceptance, subject="Does it work?")
    assert [user["id"] for user in question.assigned_users] == ["qa", "lead"]
    assert question.answered_as({"id": "lead", "name": "lead"}) == "Deployment Lead"
    assert question.answered_as({"id": "qa", "name": "qa"}) == "QA/Monitoring"
