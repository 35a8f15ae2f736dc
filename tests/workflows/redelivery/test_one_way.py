"""A message that did not get through is tried again in one way: by the redelivery, however its own task ends."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import Status
from handover.models.followup import ENDED_KEY, ENDED_TASK, Ended
from handover.models.record import MESSAGES_KEY
from handover.outside import Outside, outside, standing_in
from handover.people.messages import thanks
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.followups.steps import Invite, Tell, Ticket
from handover.workflows.recording import tasks as recording
from handover.workflows.redelivery.steps import NotDelivered, Redeliver, run_id_of
from tests.support.task import Store, Ti, context_of
from tests.support.virtual import virtual_time  # noqa: F401 - fixture
from tests.twins.airflow import TwinAirflow
from tests.twins.channels import TICKETS, TwinChannels

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


@pytest.fixture
def airflow():
    return TwinAirflow()


@pytest.fixture
def people(airflow):
    found = TwinChannels()
    with standing_in(found.outside(Outside(airflow=lambda _: airflow))):
        yield found


def task(tries: int = 1) -> Ti:
    """Of a run of the follow-ups."""
    ended = Ended(
        deployment="run", version="v1.1.0", previous_version="v1.0.0", outcome=Status.ROLLED_BACK, at=0.0, incidents=1,
    )  # fmt: skip
    made = Ti(found={(ENDED_TASK, ENDED_KEY): ended.model_dump(mode="json")}, tries=tries)
    made.dag_id = PLAN.followups_dag_id
    return made


def thank() -> Tell:
    return Tell(task_id="task", plan=PLAN, message=thanks)


def invite() -> Invite:
    return Invite(task_id="task", plan=PLAN, purpose="review", summary="review", seconds=60)


@pytest.mark.parametrize(("step", "kind"), [(thank, "slack"), (invite, "e-mail")])
def test_a_task_that_is_tried_again_hands_over_and_sends_nothing_itself(people, airflow, step, kind):
    """The first try was killed before it could hand over; by the second one the channel is back."""
    store, first, second = Store(), task(), task(tries=2)
    people.away.add(kind)
    step().execute(context_of(first, store))
    people.away.clear()
    step().execute(context_of(second, store))
    assert people.posted == []
    recording.record_task(second, PLAN)
    ((started, conf),) = airflow.started.items()
    assert started == (PLAN.redelivery_dag_id, run_id_of(airflow, conf["letter"]["key"]))
    assert conf["deployment"] == "run"
    again = Ti("redeliver")
    Redeliver(task_id="redeliver", plan=PLAN).execute(context_of(again, **conf))
    assert [one.key for one in people.posted] == [conf["letter"]["key"]]
    assert [one["problem"] for one in again.pushed[MESSAGES_KEY]] == [""]


def test_an_invitation_is_no_pass_before_it_is_delivered(people):
    made = task()
    people.away.add("e-mail")
    invite().execute(context_of(made, Store()))
    assert made.pushed[EVIDENCE_KEY]["verdict"] == "unknown"
    assert made.pushed[EVIDENCE_KEY]["reason"] == "not delivered yet: e-mail: status 503"
    people.away.clear()
    invite().execute(context_of(later := task(), Store()))
    assert later.pushed[EVIDENCE_KEY]["verdict"] == "pass"
    assert people.posted[0].invite.startswith("BEGIN:VCALENDAR")


def test_a_redelivery_that_is_killed_after_slack_has_the_message_sends_no_second_one(people):
    conf = handed_over(people)

    class Killed(BaseException):
        """The process is gone."""

    people.lost = Killed()
    with pytest.raises(Killed):
        Redeliver(task_id="redeliver", plan=PLAN).execute(context_of(Ti("redeliver"), **conf))
    Redeliver(task_id="redeliver", plan=PLAN).execute(context_of(Ti("redeliver", tries=2), **conf))
    assert len(people.posted) == 1


def test_a_letter_is_tried_until_its_time_is_over_and_then_no_more(people, virtual_time):  # noqa: F811
    conf, step = handed_over(people), Redeliver(task_id="redeliver", plan=PLAN)
    people.away.add("slack")
    tries, end = 0, clock.epoch() + PLAN.announcements.retry_for_seconds
    while clock.epoch() < end:
        tries += 1
        with pytest.raises(NotDelivered):
            step.execute(context_of(Ti("redeliver", tries=tries), **conf))
        virtual_time.now += step.retry_delay.total_seconds()  # as often as can be
    assert tries <= step.retries
    with pytest.raises(AirflowFailException, match="given up"):
        step.execute(context_of(Ti("redeliver", tries=tries + 1), **conf))


def handed_over(people: TwinChannels) -> dict:
    """What a redelivery is started with."""
    people.away.add("slack")
    made = task()
    thank().execute(context_of(made, Store()))
    people.away.clear()
    recording.record_task(made, PLAN)
    (conf,) = outside().airflow("").started.values()
    return conf


def test_a_follow_ups_ticket_is_opened_once_and_fails_while_it_cannot_be(people):
    step = Ticket(task_id="task", plan=PLAN, purpose="runbooks", summary="update runbooks", seconds=86_400)
    people.away.add(TICKETS)
    with pytest.raises(Exception, match="status 503"):
        step.execute(context_of(task()))
    people.away.clear()
    said = [step.execute(context_of(task())) for _ in range(2)]
    assert said == ["ticket PMS-1, due 1970-01-02", "ticket PMS-1 exists already"]
