"""A letter that was not delivered is handed over once, tried again, and given up on record."""

from __future__ import annotations

import json
import time

import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from handover.models.deployment import Status
from handover.models.followup import ENDED_KEY, ENDED_TASK, Ended
from handover.models.message import ORIGIN_KEY, UNDELIVERED_KEY, Letter, PageUpdate
from handover.models.record import MESSAGES_KEY
from handover.outside import Outside, outside, standing_in
from handover.people.sealing import seal_of, sealed
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.recording import tasks as recording
from handover.workflows.redelivery import steps as redelivery
from handover.workflows.redelivery.steps import (
    BadLetter,
    HandOver,
    NotDelivered,
    Redeliver,
    letter_of,
    run_id_of,
)
from tests.support.task import Ti, context_of
from tests.support.web import Answer, serving
from tests.twins.airflow import TwinAirflow

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
SLACK = Letter(key="run/task/started/#pms-deployments", kind="slack", to=("#pms-deployments",), text="hello", at=1.0)


def fresh(**more):
    return SLACK.model_copy(update={"at": time.time(), **more})


class Api:
    """Airflow's API as far as runs are started; ``answers`` are the states of the next starts."""

    def __init__(self):
        self.started, self.answers = [], []

    def __call__(self, asked):
        if asked.path == "/auth/token":
            return Answer(201, {"access_token": "t"})
        self.started.append((asked.path, asked.body))
        return Answer(self.answers.pop(0) if self.answers else 200, {})


@pytest.fixture
def airflow(monkeypatch):
    api = Api()
    with serving(api) as web:
        connection = {"conn_type": "http", "host": web.url, "login": "me", "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps(connection))
        yield api


@pytest.fixture
def slack(monkeypatch):
    """Slack that answers as the test says: statuses of its next answers, then 200."""
    statuses = []

    def answer(asked):
        listed = {"ok": True, "channels": [], "response_metadata": {}}
        return Answer(statuses[0], {}) if statuses else Answer(200, listed)

    with serving(answer) as web:
        connection = {"conn_type": "slack", "password": "x", "extra": {"base_url": f"{web.url}/"}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_SLACK", json.dumps(connection))
        web.statuses = statuses
        yield web


def posted(web):
    return [one.body["text"] for one in web.asked if one.path.endswith("chat.postMessage")]


def test_each_letter_starts_a_run_that_is_named_after_its_key(airflow):
    written = sealed(PLAN, [SLACK, SLACK.model_copy(update={"key": "other"})])
    redelivery.hand_over(PLAN, written, "the deployment")
    (path, first), (_, second) = airflow.started
    assert path == "/api/v2/dags/pms_redelivery/dagRuns"
    assert first["dag_run_id"] == run_id_of(outside().airflow("pms_airflow"), SLACK.key) != second["dag_run_id"]
    assert first["conf"]["deployment"] == "the deployment"
    assert letter_of(PLAN, first["conf"]) == written[0]


def test_a_run_id_is_one_that_airflow_takes():
    assert len(run_id_of(TwinAirflow(), "ä" * 900)) < 100
    assert run_id_of(TwinAirflow(), "a #/ä").replace("_", "").isalnum()


@pytest.mark.parametrize("status", [409, 500, 404])
def test_a_second_start_and_an_airflow_that_refuses_raise_nothing(airflow, status):
    airflow.answers = [status]
    redelivery.hand_over(PLAN, sealed(PLAN, [SLACK]), "d")
    assert len(airflow.started) == 1


def test_an_airflow_that_is_away_raises_nothing(monkeypatch):
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "login": "me", "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps(connection))
    redelivery.hand_over(PLAN, sealed(PLAN, [SLACK]), "d")


def test_without_announcements_there_is_no_redelivery(airflow):
    redelivery.hand_over(PLAN.model_copy(update={"announcements": None}), sealed(PLAN, [SLACK]), "d")
    assert airflow.started == []


def left(ti):
    ti.pushed[UNDELIVERED_KEY] = [one.model_dump(mode="json") for one in sealed(PLAN, [SLACK])]
    return ti


def test_what_a_task_left_is_handed_over_when_it_ends(airflow):
    recording.record_task(left(Ti()), PLAN)
    ((_, body),) = airflow.started
    assert body["conf"]["letter"]["text"] == "hello"


def test_a_question_hands_over_before_it_waits(airflow):
    HandOver(PLAN).notify(context_of(left(Ti())))
    assert len(airflow.started) == 1


def test_a_question_of_the_follow_ups_hands_over_under_the_deployment_that_it_is_about(airflow):
    ended = Ended(
        deployment="run", version="v1.1.0", previous_version="v1.0.0", outcome=Status.SUCCEEDED, at=0.0, incidents=0,
    )  # fmt: skip
    ti = left(Ti(found={(ENDED_TASK, ENDED_KEY): ended.model_dump(mode="json")}))
    ti.dag_id = PLAN.followups_dag_id
    HandOver(PLAN).notify(context_of(ti))
    ((_, body),) = airflow.started
    assert body["conf"]["deployment"] == "run"


def test_a_task_that_left_nothing_asks_airflow_for_nothing(airflow):
    recording.record_task(Ti(), PLAN)
    assert airflow.started == []


def task():
    return Redeliver(task_id="redeliver", plan=PLAN)


def run(letter, ti, deployment="the deployment", instead=None):
    given = {"letter": letter, "deployment": deployment}
    if isinstance(letter, Letter):
        given = conf_of(letter, deployment)
    return task().execute(context_of(ti, **(given | (instead or {}))))


def conf_of(letter, deployment="the deployment"):
    """What the system hands over."""
    seal = seal_of(outside().airflow("pms_airflow"), letter, deployment)
    return {"letter": letter.model_dump(mode="json"), "deployment": deployment, "seal": seal}


@pytest.fixture
def twin():
    made = TwinAirflow()
    with standing_in(Outside(airflow=lambda _: made)):
        yield made


@given(
    forged=st.fixed_dictionaries({}, optional={
        "text": st.text(), "at": st.floats(allow_nan=False, allow_infinity=False), "key": st.text(),
        "blocks": st.lists(st.dictionaries(st.text(), st.text()), max_size=2), "seal": st.text(max_size=64),
    })
)  # fmt: skip
def test_a_letter_that_somebody_else_wrote_or_changed_is_neither_handed_over_nor_sent(forged):
    airflow = TwinAirflow()
    with standing_in(Outside(airflow=lambda _: airflow)):
        (written,) = sealed(PLAN, [SLACK])
        changed = Letter.model_validate(written.model_dump(mode="json") | forged)
        redelivery.hand_over(PLAN, [changed], "d")
        assert bool(airflow.started) == (changed == written)
        if changed.model_copy(update={"seal": written.seal}) != written:
            with pytest.raises(BadLetter, match="seal"):
                letter_of(PLAN, conf_of(written, "d") | {"letter": changed.model_dump(mode="json")})


@pytest.mark.parametrize(
    "instead", [{"deployment": "another"}, {"deployment": None}, {"seal": None}, {"seal": ""}, {"seal": "ä"}]
)
def test_a_redelivery_is_recorded_only_for_the_deployment_that_it_was_left_for(slack, twin, instead):
    with pytest.raises(AirflowFailException, match="seal"):
        run(fresh(), ti := Ti("redeliver"), instead=instead)
    assert (slack.asked, ti.pushed) == ([], {})


def test_nobody_else_can_know_beforehand_under_which_id_a_letter_is_handed_over(airflow, monkeypatch):
    mine = run_id_of(outside().airflow("pms_airflow"), SLACK.key)
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "login": "me", "password": "guessed"}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps(connection))
    assert run_id_of(outside().airflow("pms_airflow"), SLACK.key) != mine


def test_without_a_password_nothing_is_sealed_and_nothing_handed_over(airflow, monkeypatch):
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "login": "me"}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps(connection))
    assert sealed(PLAN, [SLACK]) == [SLACK]
    redelivery.hand_over(PLAN, [SLACK], "d")
    assert airflow.started == []


def test_a_letter_that_gets_through_is_recorded_for_its_deployment(slack, twin):
    ti = Ti("redeliver")
    run(fresh(), ti)
    assert posted(slack) == ["hello"]
    (entry,) = ti.pushed[MESSAGES_KEY]
    assert (entry["channel"], entry["problem"]) == ("slack #pms-deployments", "")
    ti.dag_id = PLAN.redelivery_dag_id
    assert recording._deployment(ti, PLAN) == ti.pushed[ORIGIN_KEY] == "the deployment"


def test_an_outage_is_tried_again_and_leaves_nothing_on_record(slack, twin):
    slack.statuses.append(503)
    ti = Ti("redeliver")
    with pytest.raises(NotDelivered, match="slack #pms-deployments"):
        run(fresh(), ti)
    assert ti.pushed == {}
    slack.statuses.clear()
    run(fresh(), Ti("redeliver", tries=2))
    assert posted(slack)[-1] == "hello"


@pytest.mark.parametrize("tries", [1, 10_000])
def test_it_is_given_up_when_its_time_is_over_however_often_it_was_tried(slack, twin, tries):
    slack.statuses.append(503)
    early, ti = Ti("redeliver", tries=tries), Ti("redeliver", tries=tries)
    with pytest.raises(NotDelivered):
        run(fresh(), early)
    assert early.pushed == {}
    with pytest.raises(AirflowFailException, match=r"given up after .* s: status 503"):
        run(fresh(at=time.time() - PLAN.announcements.retry_for_seconds), ti)
    (entry,) = ti.pushed[MESSAGES_KEY]
    assert entry["problem"] == "given up: status 503"


@pytest.mark.parametrize(
    ("letter", "fault"),
    [
        (None, "valid dictionary"),
        ({"kind": "fax"}, "kind"),
        (fresh(to=("#general",)), "does not name #general"),
        (fresh(to=()), "slack to 0 places"),
        (fresh(kind="e-mail", to=("me@evil.example",)), "does not name me@evil.example"),
        (fresh(kind="e-mail", to=()), "e-mail to 0 places"),
        (fresh(kind="status page", to=()), "page"),
        (fresh(page=PageUpdate(status="resolved", version="v1.1.0")), "page"),
        (fresh(invite="BEGIN:VCALENDAR"), "invite"),
    ],
)
def test_only_letters_of_the_plan_are_sent(slack, twin, letter, fault):
    with pytest.raises(AirflowFailException, match=fault):
        run(letter, Ti("redeliver"))
    assert slack.asked == []


def test_an_invitation_goes_to_those_who_meet(slack, twin):
    to = PLAN.followups.meeting_emails
    invited = fresh(kind="e-mail", to=to, subject="post-mortem", invite="BEGIN:VCALENDAR")
    assert letter_of(PLAN, conf_of(invited)) == invited
    with pytest.raises(BadLetter, match="does not name"):
        letter_of(PLAN.model_copy(update={"followups": None}), conf_of(invited))


def test_a_status_page_letter_has_no_address(twin):
    page = PageUpdate(status="resolved", version="v1.1.0", deployment="d")
    assert letter_of(PLAN, conf_of(fresh(kind="status page", to=(), page=page))).page == page
    with pytest.raises(BadLetter):
        letter_of(PLAN, conf_of(fresh(kind="status page", to=("x",), page=page)))


def test_the_pauses_grow_up_to_a_limit_and_the_tries_outlast_the_time():
    made, rules = task(), PLAN.announcements
    assert made.retry_exponential_backoff == 2
    assert made.retry_delay.total_seconds() == rules.retry_delay_seconds  # the shortest pause there is
    assert made.retries * rules.retry_delay_seconds >= rules.retry_for_seconds
    assert made.max_active_tis_per_dag == redelivery.AT_A_TIME
    assert made.max_retry_delay.total_seconds() == redelivery.MAX_DELAY_SECONDS
