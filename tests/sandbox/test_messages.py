"""When a message was sent and since when it was true: from the record and the recorder, never guessed."""

from __future__ import annotations

import datetime

import pytest

from handover.models.deployment import Status
from handover.models.record import SentMessage
from sandbox.messages import Known, told
from tests.record import made

BACK = "rollback__x"
SWITCH = "phase_2_application_deployment.deploy_new_version.switch_traffic"


def sent(step: str, text: str, *, channel: str = "slack #team", at: float = 0, run: str = made.RUN) -> SentMessage:
    return SentMessage(at=made.START + at, channel=channel, text=text).of(made.RUN, run, step)


def arrival(service: str, body: dict, at: float) -> dict:
    path = "/api/chat.postMessage" if service == "slack" else "/"
    moment = datetime.datetime.fromtimestamp(made.START + at, datetime.UTC).isoformat()
    return {"service": service, "method": "POST", "path": path, "body": body, "at": moment}


def slack(text: str, at: float) -> dict:
    return arrival("slack", {"channel": "#team", "text": text}, at)


NOTHING_MORE = Known()


def lags(record, calls, known=NOTHING_MORE):
    return {one.text: None if one.lag is None else round(one.lag, 3) for one in told(record, calls, known)}


def test_a_message_is_as_late_as_it_arrived_after_what_it_tells_about():
    record = made.record(
        made.check(SWITCH, at=62), made.outcome(switched=60),
        sent("phase_2_application_deployment.deploy_new_version.announce_switch", "clients meet it\nall"),
    )  # fmt: skip
    (one,) = told(record, [slack("clients meet it\nall", 63.5)], NOTHING_MORE)
    assert (one.text, one.true.what, round(one.lag, 3), one.late) == ("clients meet it", "clients met it", 3.5, True)


def test_what_a_phase_decided_was_true_when_its_last_step_had_ended():
    phase = "phase_1_pre_deployment"
    steps = [made.check(f"{phase}.a", at=10), made.check(f"{phase}.b.c", at=14), made.check("phase_2.d", at=20)]
    record = made.record(*steps, sent(f"{phase}.decide", "proceed"))
    assert lags(record, [slack("proceed", 15)]) == {"proceed": 1}


def test_a_rollback_is_told_since_traffic_is_back_and_a_stop_since_nothing_can_move_any_more():
    record = made.record(made.check("move_traffic_back", at=100, run=BACK), sent("alert_team", "back", run=BACK))
    assert lags(record, [slack("back", 101)], Known(back_at=made.START + 97)) == {"back": 4}
    assert lags(record, [slack("back", 101)]) == {"back": 1}


@pytest.mark.parametrize(
    ("step", "at"),
    [("open", 0), ("phase_4.user_acceptance", 200), ("post_rollback_actions.notify", 160), ("report", 262)],
)
def test_each_step_tells_about_a_moment_of_its_own(step, at):
    record = made.record(
        made.check("verify_application.watch", at=160, run=BACK), made.outcome(Status.ROLLED_BACK, at=262, run=BACK),
        sent(step, "said", run=BACK),
    )  # fmt: skip
    known = Known(asked={"phase_4.user_acceptance": made.START + 200})
    assert lags(record, [slack("said", at + 0.5)], known) == {"said": 0.5}


@pytest.mark.parametrize("step", ["remind_user_acceptance", "phase_2.deploy_new_version.announce_switch", "whatever"])
def test_where_nothing_says_when_it_was_true_nothing_is_made_up(step):
    record = made.record(sent(step, "said"))
    assert lags(record, [slack("said", 5)]) == {"said": None}


def test_what_did_not_arrive_and_what_is_on_no_record_are_shown_as_such():
    record = made.record(sent("open", "lost"), sent("open", "a &amp; <b>"))
    found = told(record, [slack("a &amp;amp; &lt;b&gt;", 1), slack("from somebody", 2)], NOTHING_MORE)
    assert [(one.text, one.step, one.at is None) for one in found] == [
        ("a &amp; <b>", "open", False), ("from somebody", "", False), ("lost", "open", True),
    ]  # fmt: skip


def test_every_channel_is_matched_by_its_own_words():
    record = made.record(
        sent("open", "Subject\nText", channel="e-mail"), sent("open", "Public words", channel="status page"),
        sent("open", "Subject"),
    )  # fmt: skip
    calls = [
        slack("Subject", 1), arrival("statuspage", {"incident": {"body": "Public words"}}, 2),
        arrival("smtp", {"subject": "Subject", "text": "Text"}, 3), arrival("statuspage", {}, 4) | {"method": "GET"},
    ]  # fmt: skip
    assert [(one.channel, one.at - made.START) for one in told(record, calls, NOTHING_MORE)] == [
        ("slack #team", 1), ("status page", 2), ("e-mail", 3),
    ]  # fmt: skip
