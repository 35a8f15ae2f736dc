"""The steps as Airflow runs them, between two colours in memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from handover import clock
from handover.coordination import lock, promotion, state
from handover.coordination.lock import FencedOut
from handover.coordination.routing import move
from handover.coordination.size import AUTOSCALERS
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import FencingToken, Status
from handover.models.evidence import Evidence
from handover.ports.kube import KubeError
from handover.ports.router import Stage
from handover.step import FENCING_KEY, StepRun
from handover.traffic.abort import abort, look_for
from handover.traffic.operators import DrainColour, MoveTrafficBack, PointPreview, SettleTraffic, SwitchTraffic
from handover.workload.scale_down import RemoveIdleColour, RetireColour
from tests.support.steps import RUN_ID, Ran, release, run, watched
from tests.support.virtual import BEGIN
from tests.twins.kube import TwinKube

ROLLBACK = f"rollback__{RUN_ID}"
GREEN = {"spec": {"selector": {"version": "green"}}}


def step(world, kind, **arguments):
    return kind(task_id="step", plan=world.plan, **arguments)


def deployed(world, kind, **arguments) -> Ran:
    with suppress(FencedOut):
        world.run(lambda kube: watched(kube, world.plan.lock_name, world.token))
    return run(step(world, kind, **arguments), world.token, release("registry.example.com/shop/web:v1.1.0"))


class RollbackTi:
    """Like Airflow's, for a run that begins without a token."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))


def move_back(world, *, run_id: str = ROLLBACK, **params: Any) -> tuple[Evidence, FencingToken]:
    ti = RollbackTi()
    context: Any = {"run_id": run_id, "ti": ti, "params": {"reason": "a test", "deployment": None} | params}
    step(world, MoveTrafficBack, opened_by="step").execute(context)
    return Evidence.model_validate(ti.pushed[EVIDENCE_KEY]), FencingToken.model_validate(ti.pushed[FENCING_KEY])


def known(world):
    return world.run(lambda kube: state.read(kube, world.plan.lock_name))


def remember(world, **facts):
    def change(old):
        return old.model_copy(update=facts)

    return world.run(lambda kube: state.update(kube, world.plan.lock_name, world.token, change))


def where(world):
    return world.run(world.where)


@pytest.mark.plan(
    'kubectl patch service pms-api -p \'{"spec":{"selector":{"version":"green"}}}\'', "No infrastructure issues"
)
def test_a_deployment_switches_and_settles(world):
    shown = deployed(world, PointPreview, colour="new").evidence.reason
    assert shown == "Service pms-preview shows green: 2 pods; its address answers from v1.1.0 after 0.0 s"
    switched = deployed(world, SwitchTraffic)
    assert switched.evidence.passed
    assert "v1.1.0 serves on green" in switched.evidence.reason
    at = known(world).switched_at
    assert BEGIN <= at < BEGIN + 30
    assert deployed(world, SwitchTraffic).evidence.passed
    assert known(world).switched_at == at
    shown = deployed(world, PointPreview, colour="old").evidence.reason
    assert shown == "Service pms-preview shows blue: 2 pods; its address answers from v1.0.0 after 0.0 s"
    assert deployed(world, SettleTraffic).evidence.passed
    assert where(world) == ("green", Stage.FINALISED)


def test_the_preview_is_shown_once_its_address_answers_from_the_new_version(world):
    world.service.preview_follows_after = 5.0
    shown = deployed(world, PointPreview, colour="new").evidence
    assert shown.passed and "its address answers from v1.1.0 after 5." in shown.reason


def test_a_preview_address_that_never_shows_the_new_version_is_no_preview(world):
    world.service.preview_follows_after = float("inf")
    shown = deployed(world, PointPreview, colour="new").evidence
    assert not shown.passed and "new connections still reach v1.0.0" in shown.reason


def test_bad_answers_at_the_preview_address_are_said_and_judged_by_the_tests_behind_it(world):
    world.service.tell("green", mode="errors")
    shown = deployed(world, PointPreview, colour="new").evidence
    assert shown.passed and "at its address: 3 bad answers, the last one: status 500" in shown.reason


def test_where_answers_do_not_tell_their_version_the_preview_says_that_nobody_looked(world):
    plan = world.with_plan(traffic={"origin": None, "entry_seconds": 1.0})
    step = PointPreview(task_id="step", plan=plan, colour="new")
    shown = run(step, world.token, release("registry.example.com/shop/web:v1.1.0")).evidence
    assert shown.passed
    assert shown.reason.endswith("; who answers at its address was not looked at: the plan has no traffic.origin")


def test_what_belongs_before_and_after_is_refused(world):
    assert "it should be green alone" in deployed(world, SettleTraffic).evidence.reason
    drained = deployed(world, DrainColour, colour="old")
    assert not drained.evidence.passed
    assert "still serves, so it is not drained" in drained.evidence.reason
    assert where(world) == ("blue", None)


@pytest.mark.parametrize(("kind", "arguments"), [
    (SwitchTraffic, {}), (SettleTraffic, {}), (PointPreview, {"colour": "new"}), (DrainColour, {"colour": "new"}),
])  # fmt: skip
def test_a_step_whose_lock_is_gone_changes_nothing(world, kind, arguments):
    world.run(lambda kube: lock.acquire(kube, world.plan.lock_name, "another", "a test", take_over=True))
    with pytest.raises(lock.FencedOut):
        deployed(world, kind, **arguments)
    assert where(world) == ("blue", None)


@pytest.mark.plan('kubectl patch service pms-api -p \'{"spec":{"selector":{"version":"blue"}}}\'')
def test_a_rollback_moves_traffic_and_then_takes_the_lock(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    with world.guests() as guests:
        evidence, token = move_back(world, deployment=RUN_ID)
    assert guests.failed == []
    back_at = known(world).back_at
    assert known(world).switched_at < back_at
    assert evidence.reason == f"traffic is back on blue (v1.0.0) since {clock.told(back_at)}: a test"
    assert where(world) == ("blue", Stage.ABORTED)
    assert token == world.token.model_copy(update={"generation": world.token.generation + 1})
    now = known(world)
    assert (now.status, now.generation, now.rollback_reason) == (Status.ROLLING_BACK, token.generation, "a test")
    with pytest.raises(lock.FencedOut):
        deployed(world, SwitchTraffic)
    assert all(pod.draining for pod in world.service.tell("green"))


def test_a_rollback_is_not_stopped_by_what_it_will_not_be_allowed_to_do(world, capsys):
    assert deployed(world, SwitchTraffic).evidence.passed
    world.service.cluster.denied = {"jobs"}
    evidence, _ = move_back(world)
    assert evidence.passed
    assert where(world) == ("blue", Stage.ABORTED)
    assert "may not get jobs.batch in production, create jobs.batch" in capsys.readouterr().out


def test_a_rollback_keeps_what_the_deployment_knew(world):
    remember(world, banner=True, baseline={"p50_seconds": 0.1})
    move_back(world)
    assert known(world).banner
    assert known(world).baseline == {"p50_seconds": 0.1}


def test_a_rollback_before_the_switch_forbids_it_and_says_so(world):
    evidence, _ = move_back(world)
    assert evidence.reason == "nothing moved: v1.0.0 served on blue all the time: a test"
    assert where(world) == ("blue", Stage.ABORTED)
    assert (known(world).met, known(world).back_at) == (False, None)


def test_a_version_that_a_person_gave_traffic_to_was_met_though_nobody_noted_it(world):
    world.run(lambda kube: kube.merge("services", world.plan.cluster.service, GREEN))
    evidence, _ = move_back(world)
    assert evidence.reason.startswith("traffic is back on blue (v1.0.0) since ")
    assert known(world).met


def test_a_cutover_that_was_undone_was_met_for_a_moment(world):
    async def undone(kube):
        router = world.router(kube)
        await move(router, partial(promotion.claim, token=world.token))
        await move(router, partial(promotion.overlap, token=world.token, at=clock.epoch()))
        await move(router, partial(promotion.restore, token=world.token, reason="bad answers"))

    world.run(undone)
    move_back(world)
    assert known(world).met


def test_a_rollback_that_is_run_again_goes_on_with_its_own_token(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    assert move_back(world)[1] == move_back(world)[1]
    assert where(world) == ("blue", Stage.ABORTED)


def test_a_second_rollback_leaves_the_first_one_alone(world):
    _, first = move_back(world)
    with pytest.raises(AirflowSkipException, match=f"another run does the rest: {ROLLBACK}"):
        move_back(world, run_id="manual__by_hand")
    assert known(world).generation == first.generation


def test_a_failed_rollback_may_be_done_by_another_run(world):
    _, first = move_back(world)
    world.run(lambda kube: state.update(kube, world.plan.lock_name, first, lambda old: old.model_copy(
        update={"status": Status.ROLLBACK_FAILED})))  # fmt: skip
    assert move_back(world, run_id="manual__by_hand")[1].generation == first.generation + 1


def test_what_was_rolled_back_is_not_rolled_back_again(world):
    remember(world, status=Status.ROLLED_BACK)
    with pytest.raises(AirflowSkipException, match="was rolled back already"):
        move_back(world)


def test_a_rollback_of_an_unknown_deployment_touches_nothing(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    with pytest.raises(AirflowFailException, match="no deployment manual__elsewhere to roll back"):
        move_back(world, deployment="manual__elsewhere")
    world.run(lambda kube: kube.delete("configmaps", world.plan.lock_name))
    with pytest.raises(AirflowFailException, match="there is no deployment to roll back"):
        move_back(world)
    assert where(world) == ("green", Stage.PROMOTED)


def test_a_rollback_after_success_wakes_the_old_colour_up(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    assert deployed(world, SettleTraffic).evidence.passed
    remember(world, status=Status.SUCCEEDED)
    world.run(lambda kube: lock.release(kube, world.plan.lock_name, world.token.generation))
    world.run(lambda kube: world.scale(kube, "blue", 0))
    world.service.cluster.start_seconds = 5.0
    with world.guests() as guests:
        evidence, _ = move_back(world)
    assert guests.failed == []
    assert evidence.passed
    assert where(world) == ("blue", Stage.ABORTED)


def test_draining_makes_one_colour_close_and_the_other_keep_its_connections(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    _, token = move_back(world)
    ran = run(step(world, DrainColour, colour="new"), token, release("registry.example.com/shop/web:v1.1.0"))
    assert ran.evidence.reason == "drained green: 2 pods; blue keeps connections: 2 pods"
    assert [app.draining for app in world.service.tell("blue")] == [False, False]


def test_pods_that_cannot_be_told_to_let_go_are_left_to_who_scales_them_down(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    _, token = move_back(world)
    draining = DrainColour(task_id="step", plan=world.with_plan(traffic={"drain_path": None}), colour="new")
    said = run(draining, token, release("registry.example.com/shop/web:v1.1.0")).evidence
    assert said.passed and said.reason.startswith("drained no pod (the plan has no traffic.drain_path) of green: ")


def retired(world) -> Ran:
    assert deployed(world, SwitchTraffic).evidence.passed
    return deployed(world, RetireColour, quiet_seconds=1)


@pytest.mark.plan("Strategy: Blue-Green Deployment")
def test_the_stable_colour_is_retired_once_nobody_is_served_there(world):
    assert "should be green alone" not in retired(world).evidence.reason
    assert (where(world), world.service.pods("blue")) == (("green", Stage.RETIRING), [])
    assert deployed(world, RetireColour).evidence.reason == "pms-blue is scaled to 0"


def test_before_traffic_is_switched_no_colour_is_retired(world):
    ran = deployed(world, RetireColour, quiet_seconds=1)
    assert "it is not scaled down" in ran.evidence.reason
    assert len(world.service.pods("blue")) == 2


def test_a_rollback_that_comes_between_the_look_and_the_scaling_down_keeps_its_colour(world, monkeypatch):
    """The step is held up after it said on the route that the colour goes; the rollback wakes the colour meanwhile."""
    assert deployed(world, SwitchTraffic).evidence.passed
    claim = RetireColour.claim

    async def held_up(self, router, step_run):
        route = await claim(self, router, step_run)
        await MoveTrafficBack(task_id="back", plan=world.plan, opened_by="back").act(
            StepRun(world.plan, {"run_id": ROLLBACK, "ti": RollbackTi(), "params": {"reason": "a test"}}, "back")
        )
        return route

    monkeypatch.setattr(RetireColour, "claim", held_up)
    with world.guests() as guests, pytest.raises(lock.FencedOut):
        deployed(world, RetireColour, quiet_seconds=1)
    assert (where(world), len(world.service.pods("blue"))) == (("blue", Stage.ABORTED), 2)
    assert guests.failed == []


def test_a_rollback_removes_the_preview_colour_but_never_while_it_serves(world):
    assert deployed(world, SwitchTraffic).evidence.passed
    assert "it is not scaled down" in deployed(world, RemoveIdleColour).evidence.reason
    _, token = move_back(world)
    ran = run(step(world, RemoveIdleColour, quiet_seconds=1), token, release("registry.example.com/shop/web:v1.1.0"))
    assert ran.evidence.passed
    assert (len(world.service.pods("green")), len(world.service.pods("blue"))) == (0, 2)


# --- as many pods as serve


def sized(world, colour, pods):
    world.run(lambda kube: world.scale(kube, colour, pods))


def pods_of(world, colour) -> int:
    return len(world.service.pods(colour))


def test_the_new_colour_grows_to_what_serves_before_it_gets_traffic(world):
    sized(world, "blue", 6)
    world.service.cluster.start_seconds = 8.0
    balancer = world.service.behind_a_balancer(lambda _pod: 0.0)
    with world.guests() as guests:
        assert deployed(world, SwitchTraffic).evidence.passed
    assert (guests.failed, guests.bad, balancer.fewest) == ([], 0, 6)
    assert (where(world), pods_of(world, "green")) == (("green", Stage.PROMOTED), 6)


def test_it_is_looked_at_again_after_the_overlap(world):
    """An autoscaler gives the serving colour more pods while both serve."""
    balancer = world.service.behind_a_balancer(lambda _pod: 5.0)

    async def grows():
        await asyncio.sleep(6.0)
        world.service.scale("blue", 6)
        await asyncio.sleep(5.1)  # the serving colour's new pods are let in
        balancer.fewest = 6
        await asyncio.sleep(60)

    with world.time.beside(grows), world.guests() as guests:
        assert deployed(world, SwitchTraffic).evidence.passed
    assert (guests.failed, guests.bad) == ([], 0)
    assert (pods_of(world, "green"), balancer.fewest) == (6, 6)


def test_pods_that_do_not_come_up_keep_traffic_where_it_is(world):
    sized(world, "blue", 6)
    world.service.cluster.start_seconds = 1e6
    ran = deployed(world, SwitchTraffic)
    assert ran.evidence.reason == "pms-green has 2 of 6 replicas available, 6 of this release"
    assert where(world) == ("blue", None)


def test_a_stable_colour_that_has_shrunk_gets_traffic_at_once_and_grows_behind_it_which_is_said_loudly(world):
    for colour in ("blue", "green"):
        sized(world, colour, 6)
    assert deployed(world, SwitchTraffic).evidence.passed
    sized(world, "blue", 1)
    world.service.cluster.start_seconds = 8.0
    with world.guests() as guests:
        evidence, _ = move_back(world)
    assert guests.failed == []
    assert evidence.reason == (
        f"{known(world).whereabouts}: a test; WARNING: traffic had to go at once to 1 of the 6 pods "
        "that it needs on pms-blue; pms-blue is scaled to 6"
    )
    assert evidence.measurements[0].value < 0.1
    assert (where(world), pods_of(world, "blue")) == (("blue", Stage.ABORTED), 6)


def test_what_the_watch_has_moved_back_to_fewer_pods_is_scaled_up_by_the_rollback(world):
    for colour in ("blue", "green"):
        sized(world, colour, 4)
    assert deployed(world, SwitchTraffic).evidence.passed
    sized(world, "blue", 1)

    async def watch(kube):
        router = world.router(kube)
        await abort(router, world.plan, await look_for(kube, router, world.plan, world.token), "a breach")

    world.run(watch)
    assert pods_of(world, "blue") == 1
    moved_at = world.run(lambda kube: world.router(kube).read()).moved_at
    world.time.pass_by(20)
    evidence, _ = move_back(world)
    since = f"traffic is back on blue (v1.0.0) since {clock.told(moved_at)}"
    assert evidence.reason.startswith(f"{since}: a test; WARNING: traffic had to go")
    assert pods_of(world, "blue") == 4


def test_a_stable_colour_that_could_not_be_scaled_up_is_said_too(world):
    for colour in ("blue", "green"):
        sized(world, colour, 4)
    assert deployed(world, SwitchTraffic).evidence.passed
    sized(world, "blue", 1)
    merge = TwinKube.merge

    async def refused(self, resource, name, body):
        if resource.endswith("deployments"):
            raise KubeError(403, "exceeded quota")
        return await merge(self, resource, name, body)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TwinKube, "merge", refused)
        evidence, _ = move_back(world)
    assert evidence.passed
    assert evidence.reason.endswith("4 pods that it needs on pms-blue, which could not be scaled up: exceeded quota")


def test_a_rollback_after_success_wakes_as_many_as_serve(world):
    for colour in ("blue", "green"):
        sized(world, colour, 6)
    assert deployed(world, SwitchTraffic).evidence.passed
    assert deployed(world, SettleTraffic).evidence.passed
    sized(world, "blue", 0)
    sized(world, "green", 8)
    balancer = world.service.behind_a_balancer(lambda _pod: 0.0)
    with world.guests() as guests:
        assert "WARNING" not in move_back(world)[0].reason
    assert (guests.failed, balancer.fewest, pods_of(world, "blue")) == ([], 8, 8)


def test_a_rollback_that_cannot_wake_all_goes_to_those_that_are_ready_and_says_so(world):
    for colour in ("blue", "green"):
        sized(world, colour, 3)
    assert deployed(world, SwitchTraffic).evidence.passed
    assert deployed(world, SettleTraffic).evidence.passed
    sized(world, "blue", 0)

    async def never_the_last():
        while True:
            for pod in world.service.pods("blue")[2:]:
                pod.ready_at = float("inf")
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)

    world.service.cluster.start_seconds = 2.0
    with world.time.beside(never_the_last), world.guests() as guests:
        evidence, _ = move_back(world)
    assert guests.failed == []
    assert "WARNING: traffic had to go at once to 2 of the 3 pods that it needs on pms-blue" in evidence.reason
    assert where(world) == ("blue", Stage.ABORTED)


def test_an_autoscaler_that_may_shrink_the_stable_colour_is_in_the_evidence_of_the_switch(world):
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "pms-blue"}, "minReplicas": 1, "maxReplicas": 9}
    world.service.cluster.write((AUTOSCALERS, world.service.namespace, "web"), {"spec": spec})
    ran = deployed(world, SwitchTraffic)
    assert ran.evidence.reason.startswith("v1.1.0 serves on green since ")
    assert "UTC; warning: HorizontalPodAutoscaler web may shrink " in ran.evidence.reason
