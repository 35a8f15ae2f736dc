"""What was delivered is not sent again, however the task that sent it ended."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from handover.adapters.smtp import message_id
from handover.models.deployment import DeploymentState, Status
from handover.models.message import UNDELIVERED_KEY, Letter
from handover.models.record import MESSAGES_KEY
from handover.people import channels, messages
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from tests.support.task import Store, Ti, context_of
from tests.support.web import Answer, serving

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


class Broken:
    """A store that does not answer."""

    def get(self, key):
        raise RuntimeError("away")

    set = get


@pytest.fixture
def state(request):
    """Of a deployment that no other test tells of."""
    return DeploymentState(
        deployment=request.node.name, generation=1, status=Status.DEPLOYING, version="v1.1.0", image="i",
        previous_version="v1.0.0", previous_image="j", stable="blue", preview="green", reason="r",
        started_at=0.0,
    )  # fmt: skip


@pytest.fixture
def ti(request):
    return lambda tries=1: Ti(request.node.name, tries=tries)


def mails(told):
    return [c["body"] for c in told("smtp")]


@pytest.mark.plan("Email update: Deployment completed successfully")
def test_a_task_that_is_tried_again_sends_nothing_again_and_records_the_same(told, state, ti):
    store, first, second = Store(), ti(), ti(2)
    for one in (first, second):
        assert channels.tell(context_of(one, store), PLAN, messages.succeeded(PLAN, state)) == []
    assert (len(told.posts()), len(mails(told)), len(told("statuspage", "POST"))) == (1, 1, 1)
    assert second.pushed[MESSAGES_KEY] == first.pushed[MESSAGES_KEY]


def test_a_task_that_was_killed_before_its_mark_finds_its_message_in_slack(told, state, ti):
    channels.tell(context_of(ti(), None), PLAN, messages.started(PLAN, state))
    channels.tell(context_of(ti(2), Store()), PLAN, messages.started(PLAN, state))
    assert len(told.posts("@here Starting")) == 1
    assert len(told("statuspage", "POST", "PATCH")) == 1


def test_a_task_that_was_cleared_by_hand_tells_again_and_its_own_retry_does_not(told, state, ti):
    store, message = Store(), messages.decided(PLAN, "phase 1", True, ["x"])
    for tries, most in ((1, 4), (2, 4), (3, 6), (4, 6)):  # tried twice, then cleared, and tried twice again
        one = ti(tries)
        one.task, one.max_tries = SimpleNamespace(retries=4), most
        assert channels.tell(context_of(one, store), PLAN, message) == []
    assert len(told.posts()) == 2


@pytest.mark.plan("Real-time Slack updates during deployment")
def test_another_event_of_the_same_task_is_another_message(told, state, ti):
    store = Store()
    for proceed in (True, False):
        channels.tell(context_of(ti(2), store), PLAN, messages.decided(PLAN, "phase 1", proceed, ["x"]))
    assert [m["text"].splitlines()[0].rpartition(": ")[2] for m in told.posts()] == ["proceed", "ROLL BACK"]


def test_a_first_try_asks_slack_for_nothing(told, state, ti):
    channels.tell(context_of(ti(), Store()), PLAN, messages.decided(PLAN, "phase 1", True, ["x"]))
    assert [c["path"] for c in told("slack")] == ["/api/chat.postMessage"]


def test_a_history_that_may_not_be_read_sends_rather_twice_than_never(told, state, ti):
    told.away("slack", status=200, body={"ok": False, "error": "missing_scope"}, path="*/conversations.history")
    for tries in (1, 2):
        channels.tell(context_of(ti(tries), None), PLAN, messages.decided(PLAN, "phase 1", True, ["x"]))
    assert len(told.posts()) == 2


def test_a_store_that_is_away_stops_no_message(told, state, ti):
    assert channels.tell(context_of(ti(), Broken()), PLAN, messages.started(PLAN, state)) == []
    assert len(told.posts()) == 1


def test_what_was_handed_over_is_not_sent_by_a_later_try_but_handed_over_again(told, state, ti):
    store, message = Store(), messages.succeeded(PLAN, state)
    told.away("smtp")
    first, second = ti(), ti(2)
    (problem,) = channels.tell(context_of(first, store), PLAN, message)
    assert problem.startswith("e-mail: ")
    told.back("smtp")
    before = len(mails(told))
    channels.tell(context_of(second, store), PLAN, message)
    assert len(mails(told)) == before
    (letter,), (again,) = first.pushed[UNDELIVERED_KEY], second.pushed[UNDELIVERED_KEY]
    assert letter["key"] == again["key"]
    assert letter["to"] == list(PLAN.messages.stakeholders)


def test_without_redelivery_nobody_tries_again(told, state, ti):
    plan, store = PLAN.model_copy(update={"announcements": None}), Store()
    told.away("slack")
    (problem,) = channels.tell(context_of(ti(), store), plan, messages.decided(plan, "phase 1", True, ["x"]))
    told.back("slack")
    told.forget()
    assert channels.tell(context_of(ti(2), store), plan, messages.decided(plan, "phase 1", True, ["x"])) == [problem]
    assert told.posts() == []


def test_a_slack_that_answers_with_a_limit_is_an_undelivered_message(state, ti, monkeypatch):
    with serving(lambda asked: Answer(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"})) as web:
        connection = {"conn_type": "slack", "password": "x", "extra": {"base_url": f"{web.url}/"}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SLACK", json.dumps(connection))
        one = ti()
        assert channels.tell(context_of(one, Store()), PLAN, messages.decided(PLAN, "p", True, ["x"]))
        assert len(web.asked) == 1
    assert Letter.model_validate(one.pushed[UNDELIVERED_KEY][0]).blocks


def test_the_answer_that_came_too_late_is_found_by_the_redelivery(told, state, ti):
    """Slack had the message, but its answer was lost: the letter counts as undelivered, and is not sent again."""
    (letter,) = channels.letters(PLAN, messages.decided(PLAN, "phase 1", True, ["x"]), state.deployment)
    channels.deliver(PLAN, letter, look=False)
    assert channels.deliver(PLAN, letter, look=True, again=True).delivered
    assert len(told.posts()) == 1


def test_a_message_that_was_late_says_so(told, state):
    (letter,) = channels.letters(PLAN, messages.decided(PLAN, "phase 1", True, ["x"]), state.deployment)
    channels.deliver(PLAN, letter, look=True, again=True)
    assert "delivered late" in told.posts()[0]["blocks"][-1]["elements"][0]["text"]


def test_a_message_without_blocks_is_not_hidden_behind_its_being_late(told, state):
    (letter,) = channels.letters(PLAN, messages.decided(PLAN, "phase 1", True, ["x"]), state.deployment)
    channels.deliver(PLAN, letter.model_copy(update={"blocks": ()}), look=True, again=True)
    assert told.posts()[0]["blocks"] == []


def test_two_plans_that_deploy_at_the_same_moment_do_not_send_the_same_message(state):
    other = PLAN.model_copy(update={"name": "shop"})
    first, second = (channels.letters(plan, messages.succeeded(plan, state), "run/task") for plan in (PLAN, other))
    assert not {one.key for one in first} & {one.key for one in second}


def test_a_refusal_is_told_in_the_words_of_who_refused(told, state, ti):
    told.away("slack", status=200, body={"ok": False, "error": "not_in_channel"})
    told.away("statuspage", status=401, body={"error": "Could not authenticate secret"})
    told.away("smtp")
    slack, page, mail = channels.tell(context_of(ti(), Store()), PLAN, messages.succeeded(PLAN, state))
    assert slack == "slack #pms-deployments: not_in_channel"
    assert page == "status page: GET /v1/pages/pms/incidents: 401 Could not authenticate ***"
    assert mail == "e-mail: 451 the recorder does not answer"


def test_a_mail_has_the_same_id_every_time(told, state, ti):
    for _ in range(2):
        channels.tell(context_of(ti(), None), PLAN, messages.succeeded(PLAN, state))
    first, second = mails(told)
    assert first["message_id"] == second["message_id"]
    assert first["message_id"].endswith("@pms.example.com>")


def test_a_message_id_tells_keys_apart():
    ids = {message_id(key, "Deployments <a@b.example>") for key in ("a", "b", "a/b", "")}
    assert len(ids) == 4
    assert all(one.endswith("@b.example>") for one in ids)


def test_questions_leave_both_what_was_asked_and_what_came_of_it(told, state, ti):
    one = ti()
    for proceed in (True, False):
        channels.tell(context_of(one, Store()), PLAN, messages.decided(PLAN, "phase 1", proceed, ["x"]))
    assert len(one.pushed[MESSAGES_KEY]) == 2


def test_no_credential_is_in_what_is_left_behind(told, state, ti):
    told.away("slack", "statuspage", "smtp")
    one = ti()
    channels.tell(context_of(one, Store()), PLAN, messages.succeeded(PLAN, state))
    assert len(one.pushed[UNDELIVERED_KEY]) == 3
    assert "secret" not in json.dumps(one.pushed)
