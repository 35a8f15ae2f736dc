"""What is going on now: of everything that answers, and of what does not since when."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from handover import clock
from handover.coordination import heartbeat, promotion
from handover.coordination import state as states
from handover.coordination.routing import move
from handover.models.deployment import Status
from handover.models.evidence import Measurement
from handover.models.heartbeat import Heartbeat
from handover.models.incident import Resolution, Severity, began
from handover.ports.airflow import run_path
from handover.workflows.page import schedule
from handover.workflows.page.parts import PATIENCE_SECONDS, SHARED_SECONDS, Part, Shared
from tests.support.steps import RUN_ID
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture

NOW = "/plans/pms/now"
TASKS = f"{run_path('pms_deployment', RUN_ID)}/taskInstances"


def promote(desk, **state):
    """Clients meet the new version."""

    async def promoted(kube):
        router = desk.service.outside().router(kube, desk.plan.cluster, desk.plan.cluster.service)
        await move(router, partial(promotion.overlap, token=desk.token, at=clock.epoch()))
        await move(router, partial(promotion.promote, token=desk.token))
        await states.update(kube, desk.plan.lock_name, desk.token, lambda old: old.model_copy(update=state))

    desk.cluster(promoted)


def beat(desk, ago=0.0):
    sign = Heartbeat(watcher="triggerer", at=clock.epoch() - ago, armed=True, reason="no errors")
    desk.cluster(lambda kube: heartbeat.beat(kube, desk.plan.lock_name, desk.token, sign))


def again(desk, path=NOW):
    """The same, looked at anew."""
    for reader in desk.inner.state.readers.values():
        for part in (reader.cluster, reader.airflow, reader.ledger):
            part._asked_at = None
    return desk.get(path).json()


def test_before_the_first_deployment_everything_that_is_there_is_said(desk, recorded):
    told = desk.get(NOW).json()
    assert (told["deployment"], told["lock"], told["watches"]) == (None, None, [])
    assert [(one["colour"], one["weight"], one["ready"], one["wanted"]) for one in told["traffic"]["colours"]] == [
        ("blue", 100, 2, 2),
        ("green", 0, 2, 2),
    ]
    assert all(part["answers"] for part in told["parts"].values())
    assert (told["rollback"]["possible"], told["rollback"]["why"]) == (False, "nothing was ever deployed")


def test_a_deployment_under_way_is_said_with_who_holds_the_lock(desk):
    desk.deploy()
    told = desk.get(NOW).json()
    assert (told["deployment"]["version"], told["deployment"]["previous_version"]) == ("v1.1.0", "v1.0.0")
    assert told["deployment"]["digest"] == f"sha256:{'1' * 64}"
    assert (told["lock"]["holder"], told["lock"]["reason"], told["lock"]["since"] > 0) == (RUN_ID, "a test", True)
    assert told["rollback"]["effect"].startswith("v1.1.0 is stopped: v1.0.0 goes on serving")
    assert told["parts"]["watch"]["answers"], "nothing is to be watched yet"


def test_after_the_cutover_it_says_since_when_and_what_a_rollback_would_do(desk):
    desk.deploy()
    promote(desk, switched_at=1_795_010_400.0)
    beat(desk)
    told = desk.get(NOW).json()
    assert [(one["role"], one["weight"]) for one in told["traffic"]["colours"]] == [("stable", 0), ("preview", 100)]
    assert (told["deployment"]["switched_at"], told["traffic"]["stage"]) == (1_795_010_400.0, "promoted")
    assert told["rollback"]["effect"] == "traffic goes back to blue (v1.0.0) at once; pms_rollback does the rest"
    assert [(one["watcher"], one["silent"], one["armed"]) for one in told["watches"]] == [("triggerer", False, True)]
    desk.service.scale("blue", 0)
    assert "has no ready pod and is woken first" in again(desk)["rollback"]["effect"]


def test_a_watch_that_is_silent_is_said_with_its_last_word(desk):
    desk.deploy()
    promote(desk)
    told = desk.get(NOW).json()["parts"]["watch"]
    assert (told["answers"], told["at"], "nobody watches" in told["reason"]) == (False, None, True)
    beat(desk, ago=3600)
    told = again(desk)
    assert (told["parts"]["watch"]["answers"], told["watches"][0]["silent"]) == (False, True)
    assert told["parts"]["watch"]["at"] == told["watches"][0]["at"]
    assert "no sign of life for 3600 s" in told["parts"]["watch"]["reason"]
    beat(desk)
    assert again(desk)["parts"]["watch"]["answers"]


def test_a_cluster_that_is_away_is_said_and_what_it_said_last_stays_with_its_time(desk):
    desk.deploy()
    before = desk.get(NOW).json()
    for reader in desk.inner.state.readers.values():
        reader._kube = None
    desk.away = True
    after = again(desk)
    assert (after["parts"]["cluster"]["answers"], after["parts"]["watch"]["answers"]) == (False, False)
    assert after["parts"]["cluster"]["reason"] == "the cluster did not answer: connection refused"
    assert after["parts"]["cluster"]["at"] == before["parts"]["cluster"]["at"] < after["at"]
    assert after["deployment"] == before["deployment"]
    assert after["rollback"]["possible"], "somebody may try all the same"
    desk.away = False
    assert again(desk)["parts"]["cluster"]["answers"]


def test_a_cluster_that_never_answered_leaves_empty_what_it_knows(desk):
    desk.away = True
    told = desk.get(NOW).json()
    assert (told["traffic"], told["deployment"], told["lock"], told["parts"]["cluster"]["at"]) == (None,) * 4
    (card,) = desk.get("/plans").json()["plans"]
    assert card["readiness"]["problem"] == "the cluster did not answer: connection refused"


def test_a_state_that_cannot_be_read_is_said_and_takes_nothing_down(desk):
    desk.deploy()
    desk.cluster(lambda kube: kube.merge("configmaps", desk.plan.lock_name, {"data": {"state": "{}"}}))
    answer = desk.get(NOW)
    assert (answer.status_code, answer.json()["parts"]["cluster"]["answers"]) == (200, False)


def test_steps_under_way_are_said_with_their_phase_and_reminders_are_none(desk):
    desk.deploy()
    began = "2026-11-24T14:00:00Z"

    def task(name, state="running"):
        return {"task_id": name, "state": state, "start_date": began, "try_number": 1}

    desk.airflow.answers[TASKS] = {"task_instances": [
        task("phase_5_monitoring.stabilization", "deferred"), task("remind_team_briefing", "deferred"),
        task("watch", "deferred"), task("open", "success"),
    ]}  # fmt: skip
    told = desk.get(NOW).json()["deployment"]
    assert [(one["phase"], one["name"], one["state"]) for one in told["steps"]] == [
        ("phase_5_monitoring", "stabilization", "deferred"), ("", "watch", "deferred"),
    ]  # fmt: skip
    assert told["decision_at"] == told["steps"][0]["since"] + desk.plan.rollback.window_seconds


def test_an_airflow_that_does_not_say_takes_nothing_else_down(desk):
    desk.deploy()
    desk.airflow.away = True
    told = desk.get(NOW).json()
    assert (told["parts"]["airflow"]["answers"], told["parts"]["cluster"]["answers"]) == (False, True)
    assert told["deployment"]["steps"] == []


@pytest.mark.parametrize(("status", "possible"), [
    (Status.SUCCEEDED, True), (Status.ROLLING_BACK, True), (Status.ROLLBACK_FAILED, True),
    (Status.ROLLED_BACK, False), (Status.GIVEN_UP, False),
])  # fmt: skip
def test_a_rollback_is_offered_while_traffic_can_go_back(desk, status, possible):
    desk.deploy()
    promote(desk, status=status, switched_at=1.0)
    told = desk.get(NOW).json()["rollback"]
    assert (told["possible"], bool(told["why"])) == (possible, not possible)


def test_of_a_rollback_that_has_traffic_back_already_nothing_is_offered(desk):
    desk.deploy(status=Status.ROLLING_BACK, rollback_run="rollback__x")
    told = desk.get(NOW).json()
    assert told["rollback"]["possible"] is False
    assert told["rollback"]["why"] == "traffic is on blue (v1.0.0) already; rollback__x does the rest"
    assert told["deployment"]["whereabouts"] == "nothing moved: v1.0.0 served on blue all the time"


def test_what_looks_like_a_secret_is_not_told(desk):
    incident = began("error_rate", "token=hunter2", Severity.CRITICAL, 1.0, Resolution.ASKED)
    desk.deploy(reason="deploy with password=hunter2 today", incidents=(incident,))
    measured = Measurement(what="cpu", value=None, source="pods", why="Authorization: Bearer hunter2-hunter2-hunter2")
    sign = Heartbeat(watcher="w", at=clock.epoch(), reason="secret: hunter2", measurements=(measured,))
    desk.cluster(lambda kube: heartbeat.beat(kube, desk.plan.lock_name, desk.token, sign))
    told = desk.get(NOW)
    assert "hunter2" not in told.text
    assert told.json()["deployment"]["incidents"][0]["reason"] == "token=***"


def test_what_is_due_is_told_as_a_scheduled_run_takes_it(desk):
    desk.deploy()
    state = desk.cluster(lambda kube: states.read(kube, desk.plan.lock_name))
    plan, ask = desk.plan, schedule.due_of
    assert ask(plan, None, state).version == ask(plan, {"version": "v1.1.0"}, state).version == ""
    assert (ask(plan, {"version": "v2.0.0", "image": 7}, state).image, ask(plan, [], None).problem) == ("7", "")
    for wrong in ("v2.0.0", ["v2.0.0"], {"image": "x"}, {"version": 2}):
        assert "is no JSON object with a version" in ask(plan, wrong, None).problem


@pytest.mark.parametrize("broken", [False, True])
def test_what_many_ask_at_once_is_asked_once_and_everybody_has_the_answer(virtual_time, broken):  # noqa: F811
    asked = []

    async def ask():
        asked.append(clock.epoch())
        await asyncio.sleep(0.2)
        if broken:
            raise ValueError("away")
        return "there"

    async def many():
        shared = Shared()
        questions = [("one",)] * 5 + [("other", 1)]
        found = await asyncio.gather(*(shared.once(one, ask) for one in questions), return_exceptions=True)
        await asyncio.sleep(SHARED_SECONDS)
        return found, await asyncio.gather(shared.once(("one",), ask), return_exceptions=True)

    found, later = asyncio.run(many())
    assert {str(one) for one in found + later} == {"away" if broken else "there"}
    assert len(asked) == 3


def test_a_part_that_does_not_answer_holds_nobody_up(virtual_time):  # noqa: F811
    asked = []

    async def never():
        asked.append(clock.epoch())
        await asyncio.sleep(3600)

    async def look():
        part = Part("it", never, 1.0)
        began = clock.monotonic()
        await asyncio.gather(*(part.fresh() for _ in range(10)))
        took = clock.monotonic() - began
        heard = part.heard
        await part.close()
        return took, heard

    took, heard = asyncio.run(look())
    assert (took, len(asked)) == (pytest.approx(PATIENCE_SECONDS), 1)
    assert (heard.answers, heard.at) == (False, None)
