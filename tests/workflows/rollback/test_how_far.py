"""What a rollback does and says depends on whether clients ever met the version: if not, it was only stopped."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from handover import clock
from handover.coordination import lock, promotion, state
from handover.coordination.routing import move
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import MigrationRecord, Release, Status
from handover.models.followup import ENDED_KEY, Ended
from handover.models.incident import Resolution, Severity, began
from handover.models.record import INCIDENTS_KEY
from handover.outside import outside, standing_in
from handover.people import messages
from handover.people.operators import Announce, OpenTicket
from handover.step import RELEASE_KEY
from handover.traffic.operators import MoveTrafficBack
from handover.workflows.deployment.closing import Close, PublishEnd
from handover.workflows.rollback.steps import HowFar
from handover.workload.scale_down import RemoveIdleColour
from tests.support.steps import RUN_ID, release
from tests.twins.channels import TwinChannels
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

BACK = "move_traffic_back"
AFTER = ["post_rollback_actions.banner", "post_rollback_actions.open_ticket", "post_rollback_actions.notify"]
STOPPED = ["remove_new_colour", *AFTER]
VERIFIED = frozenset({"verify_application.watch", "verify_application.key_endpoints"})
MOVED = ["drain_new_colour", "old_version_healthy"]


class RunTi:
    """The XComs of one run, by task."""

    def __init__(self, asked: Release) -> None:
        self.left: dict[str, dict[str, Any]] = {BACK: {RELEASE_KEY: asked.model_dump(mode="json")}}
        self.task_id, self.dag_id, self.try_number, self.max_tries, self.task = "", "pms_rollback", 1, 0, None

    def xcom_push(self, key: str, value: Any) -> None:
        self.left.setdefault(self.task_id, {})[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(task_ids, {}).get(key)


@pytest.fixture
def people(world):  # noqa: F811
    found = TwinChannels()
    with standing_in(found.outside(outside())):
        yield found


@pytest.fixture
def rollback(world, people):  # noqa: F811
    """Runs one step after the other as the rollback DAG does; gives what each said."""
    ti = RunTi(release("registry.example.com/shop/web@sha256:1"))
    steps = {
        BACK: MoveTrafficBack, "alert_team": partial(Announce, message=messages.taken_back),
        "remove_new_colour": RemoveIdleColour, "open_ticket": OpenTicket,
        "notify": partial(Announce, message=messages.rolled_back), "close": partial(Close, status=Status.ROLLED_BACK),
    }  # fmt: skip

    def go(*names: str) -> RunTi:
        for name in names:
            ti.task_id = name
            step = steps[name](task_id=name, plan=world.plan, opened_by=BACK)
            step.execute({"run_id": f"rollback__{RUN_ID}", "ti": ti, "params": {"reason": "it does not start"}})
        return ti

    return go


def known(world):  # noqa: F811
    return world.run(lambda kube: state.read(kube, world.plan.lock_name))


def remember(world, **facts):  # noqa: F811
    def change(old):
        return old.model_copy(update=facts)

    world.run(lambda kube: state.update(kube, world.plan.lock_name, world.token, change))


def switched(world) -> None:  # noqa: F811
    async def work(kube):
        router = world.router(kube)
        await move(router, partial(promotion.claim, token=world.token))
        await move(router, partial(promotion.overlap, token=world.token, at=clock.epoch()))
        await move(router, partial(promotion.promote, token=world.token))

    world.run(work)


ALL = (BACK, "alert_team", "remove_new_colour", "open_ticket", "notify", "close")


def test_what_no_client_met_is_stopped_told_to_the_team_alone_and_free_at_once(world, people, rollback):  # noqa: F811
    """Even if the watch had something against it."""
    breach = began("error_rate", "its pods are bad", Severity.CRITICAL, 1.0, Resolution.ROLLED_BACK)
    remember(world, incidents=(breach,))
    before = world.time.now
    ti = rollback(*ALL)
    (letter,) = people.posted
    assert (letter.kind, letter.to) == ("slack", (world.plan.messages.deployments_channel,))
    assert "STOPPED before the switch; nothing moved: v1.0.0 served on blue all the time" in letter.text
    assert "Reason: it does not start" in letter.text
    assert people.opened == {}
    assert ti.left["notify"][EVIDENCE_KEY]["reason"] == "there is nobody to tell"
    assert ti.left["close"][EVIDENCE_KEY]["reason"].startswith("v1.1.0: stopped before the switch after ")
    assert ti.left["close"][INCIDENTS_KEY] == []
    assert world.run(lambda kube: lock.holder(kube, world.plan.lock_name)) == ""
    assert (len(world.service.pods("green")), len(world.service.pods("blue"))) == (0, 2)
    assert world.time.now - before < 5


def test_a_maintenance_that_was_announced_as_under_way_is_closed_in_public(world, people, rollback):  # noqa: F811
    remember(world, announced=True)
    rollback(*ALL)
    assert [letter.kind for letter in people.posted] == ["slack", "status page"]
    page = people.posted[1]
    assert (page.page.status, page.text.endswith("Nothing has changed.")) == ("completed", True)


def test_what_clients_met_is_told_with_the_moment_since_when_it_is_over(world, people, rollback):  # noqa: F811
    switched(world)
    world.time.pass_by(60)
    rollback(*ALL[:2])
    back_at = known(world).back_at
    said = {letter.kind: letter.text for letter in people.posted}
    assert f"Traffic is back on blue (v1.0.0) since {clock.told(back_at)}. Verification takes" in said["slack"]
    assert f"again, since {clock.told(back_at)}. We are verifying it." in said["status page"]
    world.time.pass_by(600)
    ti = rollback(*ALL[3:])
    assert all(letter.at >= back_at for letter in people.posted)
    later = {letter.kind: letter.text for letter in people.posted[2:]}
    assert f"v1.0.0 serves again, since {clock.told(back_at)}, and is verified by now" in later["slack"]
    assert {"status page", "e-mail"} < later.keys()
    ((_, (_, ticket)),) = people.opened.items()
    assert ticket.kind == "Incident"
    assert Ended.model_validate(ti.left["close"][ENDED_KEY]).troubled


def test_a_database_that_has_moved_before_traffic_did_is_an_incident_of_the_team(world, people, rollback):  # noqa: F811
    remember(world, migration=MigrationRecord(started=True))
    ti = rollback(*ALL)
    texts = [(letter.kind, letter.to, letter.text) for letter in people.posted]
    assert {(kind, to) for kind, to, _ in texts} == {("slack", (world.plan.messages.incidents_channel,))}
    assert "Traffic did not move, but the database did: v1.0.0 served on blue all the time." in texts[0][2]
    assert "the database is back for v1.0.0, which served all the time" in texts[1][2]
    assert len(people.opened) == 1
    assert Ended.model_validate(ti.left["close"][ENDED_KEY]).troubled


def test_what_was_only_stopped_is_not_followed_up(world, people, rollback):  # noqa: F811
    ti = rollback(*ALL)
    assert not Ended.model_validate(ti.left["close"][ENDED_KEY]).troubled
    publish = PublishEnd(task_id="publish_end", plan=world.plan, ended_from="close")
    with pytest.raises(AirflowSkipException):
        publish.execute({"ti": ti})


@pytest.mark.parametrize(("moved", "way"), [(None, STOPPED), ("traffic", MOVED), ("database", MOVED)])
def test_only_what_has_moved_is_verified(world, people, rollback, monkeypatch, moved, way):  # noqa: F811
    if moved == "traffic":
        switched(world)
    if moved == "database":
        remember(world, migration=MigrationRecord(started=True))
    ti = rollback(BACK)
    chosen: list[list[str]] = []
    step = HowFar(task_id="how_far", plan=world.plan, opened_by=BACK, moved=MOVED, stopped=STOPPED)
    monkeypatch.setattr(step, "do_branch", lambda _context, tasks: chosen.append(tasks))
    step.execute({"run_id": f"rollback__{RUN_ID}", "ti": ti})
    assert chosen == [way]


def test_both_ways_meet_where_the_new_colour_is_taken_away_and_people_are_told_meanwhile(dag_bag):
    rollback = dag_bag.dags["pms_rollback"]
    far, met = rollback.get_task("how_far"), [rollback.get_task(name) for name in STOPPED]
    assert far.upstream_task_ids == {BACK}
    assert far.downstream_task_ids == {*far.moved, *far.stopped, "report_failure"}
    assert far.stopped == STOPPED
    assert {task.trigger_rule for task in met} == {TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS}
    assert {frozenset(task.upstream_task_ids - {"how_far"}) for task in met} == {VERIFIED}
    assert rollback.get_task("close").upstream_task_ids == set(STOPPED)
    ending = {*STOPPED, *(name for task in met for name in task.get_flat_relative_ids(upstream=False))}
    skipped = {"verify_application.watch", "verify_application.smoke_tests", "database_rollback.roll_back_database"}
    assert skipped.isdisjoint(ending)
