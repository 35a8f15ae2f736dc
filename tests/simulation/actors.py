"""Those who act on one service at the same time, each through the product's own code, as Airflow or a shell runs it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from handover import clock
from handover.analysis.judge import Finding
from handover.analysis.observations import Observations
from handover.analysis.window import Share
from handover.coordination import promotion
from handover.coordination import state as states
from handover.coordination.lock import LEASES, FencedOut, Locked
from handover.coordination.routing import DEPLOYMENTS, NotReady, full, patiently
from handover.evidence_seal import leave
from handover.models.annotations import as_annotations
from handover.models.deployment import DeploymentState, FencingToken, Release, Status
from handover.models.evidence import Evidence, failed
from handover.models.heartbeat import Heartbeat
from handover.outside import Outside, outside, standing_in
from handover.plan.model import Plan
from handover.ports.kube import Json, KubeError
from handover.ports.router import Route
from handover.step import FENCING_KEY, StepRun
from handover.traffic.abort import NothingToRollBack, abort_or_wake, let_go, look
from handover.traffic.operators import DrainColour, MoveTrafficBack, PointPreview, SettleTraffic, SwitchTraffic
from handover.workflows.deployment.closing import Close
from handover.workflows.deployment.opening import GiveUp, begin
from handover.workflows.watch.background import BackgroundAnalysis
from handover.workflows.watch.steps import Soak
from handover.workflows.watch.trigger import subject_of
from handover.workload.operators import DeployIdleColour
from handover.workload.scale_down import RemoveIdleColour, RetireColour, ScaleDown
from sandbox.cluster.patch import merge_patch
from tests.simulation.invariants import Witness
from tests.simulation.kube import Killed, ScheduledKube
from tests.simulation.schedule import Call, Schedule
from tests.twins.kube import SERVICES
from tests.twins.service import TwinAddress, TwinService

RETRIES = 4
RETRY_SECONDS = 3.0
LOST_SECONDS = 25.0
"""After so long Airflow takes a process that says nothing for lost, and starts another one."""
LONGEST_SECONDS = 600.0
"""No deployment takes longer here: a watch is not lost before."""
SOAK_SECONDS = 3.0
WATCHED_ON_SECONDS = 70.0
"""When nobody else does anything any more; longer than anybody is held up."""
TO_NEXT_TASK_SECONDS = 0.3
TO_ROLLBACK_SECONDS = 1.3
IMAGE = f"registry.example.com/shop/web@sha256:{'0' * 64}"
SILENT = logging.getLogger("simulation")
FINAL = (AirflowFailException, FencedOut, Locked, promotion.Refused)
"""What Airflow does not try again."""


Work = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Steps:
    """One of each; a step holds nothing of its own between two runs."""

    deploy: DeployIdleColour
    preview: PointPreview
    switch: SwitchTraffic
    soak: Soak
    settle: SettleTraffic
    retire: RetireColour
    succeeded: Close
    back: MoveTrafficBack
    drain: DrainColour
    remove: RemoveIdleColour
    rolled_back: Close
    failed: Close
    give_up: GiveUp

    @classmethod
    def of(cls, plan: Plan) -> Steps:
        def step(kind: type[BaseOperator], **arguments: Any) -> Any:
            made = kind(task_id=kind.__name__.lower(), plan=plan, **arguments)
            made._cached_logger = SILENT
            return made

        return cls(
            step(DeployIdleColour), step(PointPreview), step(SwitchTraffic), step(Soak, seconds=SOAK_SECONDS),
            step(SettleTraffic), step(RetireColour),
            step(Close, status=Status.SUCCEEDED), step(MoveTrafficBack), step(DrainColour, colour="new"),
            step(RemoveIdleColour), step(Close, status=Status.ROLLED_BACK), step(Close, status=Status.ROLLBACK_FAILED),
            step(GiveUp),
        )  # fmt: skip


class XComs:
    """What the tasks of one run leave each other.

    :param task_id: of the one whose token the others read
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.left: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(key)


@dataclass
class World:
    """One service, and everybody who is at work on it."""

    service: TwinService
    steps: Steps
    schedule: Schedule
    witness: Witness
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    watches: set[asyncio.Future[Any]] = field(default_factory=set)
    """They go on for as long as anybody else does."""
    rollbacks: set[str] = field(default_factory=set)
    waiting: dict[Call, list[tuple[str, Work]]] = field(default_factory=dict)
    """Actors that begin when another one makes a call."""

    @property
    def plan(self) -> Plan:
        return self.service.plan

    def outside_of(self, actor: str) -> Outside:
        """The cluster as this actor reaches it."""

        @asynccontextmanager
        async def kube(_connection: str, namespace: str) -> Any:
            yield ScheduledKube(self.service.cluster.client(namespace), actor, self.schedule, self._called)

        @asynccontextmanager
        async def public(connection: str) -> Any:
            yield self.service.address(connection)

        return Outside(kube=kube, public=public)

    def start(self, actor: str, work: Work) -> None:
        with standing_in(self.outside_of(actor)):
            task = asyncio.ensure_future(_to_the_end(work))
        self.tasks.add(task)

    def _called(self, call: Call) -> None:
        for actor, work in self.waiting.pop(call, ()):
            self.start(actor, work)

    async def at_rest(self) -> None:
        """Until nobody has anything left to do; a watch of a deployment that nobody ends goes on for ever. Raises what
        an actor did not expect.
        """
        while running := [task for task in self.tasks if not task.done()]:
            await asyncio.wait(running)
            if watching := [task for task in self.watches if not task.done()]:
                await asyncio.wait(watching, timeout=WATCHED_ON_SECONDS)
        for task in self.watches:
            task.cancel()
        await asyncio.gather(*self.watches, return_exceptions=True)
        for task in self.tasks:
            task.result()


async def _to_the_end(work: Work) -> None:
    try:
        await work()
    except Killed:
        return


async def _as_a_task(
    world: World, work: Callable[[], Awaitable[Evidence | None]], patience: float = LOST_SECONDS
) -> bool:
    """As Airflow runs a task: tried again after a fault, and once more when its process is gone or held up for long, in
    which case the old process may come back beside the new one. Gives whether it ended well.
    """
    for _ in range(RETRIES + 1):
        attempt = asyncio.ensure_future(work())
        if patience == LONGEST_SECONDS:
            world.watches.add(attempt)
        else:
            world.tasks.add(asyncio.ensure_future(_quietly(attempt)))
        done, _pending = await asyncio.wait([attempt], timeout=patience + 120 * (not world.schedule.chance(0.5)))
        if done and not isinstance(attempt.exception(), Exception | Killed):
            evidence = attempt.result()
            return evidence is None or evidence.passed
        if done and isinstance(attempt.exception(), FINAL):
            return False
        if done and isinstance(attempt.exception(), AirflowSkipException):
            raise attempt.exception() or AssertionError
        await asyncio.sleep(RETRY_SECONDS)
    return False


async def _quietly(attempt: asyncio.Future[Any]) -> None:
    """A process that was taken for lost goes on, whatever becomes of it."""
    await asyncio.wait([attempt])
    attempt.exception()


def _scaling_down(step: ScaleDown) -> Callable[[StepRun], Awaitable[Evidence]]:
    """Without the wait until nobody is served there any more, which is another's subject."""

    async def work(run: StepRun) -> Evidence:
        colour = step.colour(run)
        return await step.nothing_to_do(run, colour) or await step.scale_down(run, colour, "quiet")

    return work


async def _available(world: World, run: StepRun) -> Evidence | None:
    """The rollout, waited for as `RolloutComplete` does."""
    name = world.plan.cluster.deployment_of(run.token.preview)
    async with run.kube() as kube:
        for _ in range(200):
            try:
                await patiently(partial(full, kube, name, world.plan.cluster.replicas))
                return None
            except NotReady:
                await asyncio.sleep(0.5)
    raise AirflowFailException("the rollout is not complete")


async def deployment(world: World, run_id: str, version: str, *, breach_after: float | None = None) -> None:
    """The deployment DAG, as far as it moves traffic; a failed task starts the rollback DAG."""
    xcoms, steps = XComs("open"), world.steps
    run = StepRun(world.plan, {"run_id": run_id, "ti": xcoms, "params": {}}, xcoms.task_id)

    async def opens() -> None:
        release = Release(version=version, image=IMAGE, reason="test")
        async with run.kube() as kube:
            known = await begin(kube, run.router(kube), world.plan, run_id, release, "ready")
        leave(xcoms, FENCING_KEY, known.token.model_dump(mode="json"))

    if not await _as_a_task(world, opens):
        await _as_a_task(world, partial(_give_up, world, run_id))
        return
    watch = partial(_watched, world, run, breach_after)
    works: list[Callable[[], Awaitable[Evidence | None]]] = [
        partial(steps.deploy.act, run), partial(_available, world, run), partial(steps.preview.act, run),
        partial(_beside, world, watch), partial(steps.switch.act, run), partial(_soak, world, run),
        partial(_scaling_down(steps.retire), run), partial(steps.settle.act, run), partial(steps.succeeded.act, run),
    ]  # fmt: skip
    for work in works:
        await asyncio.sleep(TO_NEXT_TASK_SECONDS)
        if not await _as_a_task(world, work):
            await asyncio.sleep(TO_ROLLBACK_SECONDS)
            start_rollback(world, run_id)
            return


async def _give_up(world: World, run_id: str) -> None:
    give_up = world.steps.give_up
    await give_up.unlock(run_id)


class ScriptedObserver:
    """The twin of an observer: it sees a breach when the schedule says, or none. What it would see has other tests."""

    def __init__(self, plan: Plan, breach_at: float | None) -> None:
        self.seen = GoodObservations(plan, clock.monotonic())
        self.say = lambda _text: None
        self._breach_at = breach_at

    async def watch(self, _seconds: float) -> Finding | None:
        if self._breach_at is None:
            await asyncio.Event().wait()
        await asyncio.sleep(max(0.0, (self._breach_at or 0.0) - clock.monotonic()))
        return Finding("error_rate", "half of all answers are bad")


class GoodObservations(Observations):
    """Every source was heard, and what it said was good."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.served = self.probed = Share(0, 1000)
        self.heard = dict.fromkeys(self.heard, math.inf)


async def _watch(world: World, run: StepRun, breach_at: float | None) -> Evidence:
    """The watch, as its trigger runs it."""
    token = run.token
    async with run.kube() as kube, run.public() as public:
        state = await states.read(kube, world.plan.lock_name)
        if state is None or state.generation != token.generation:
            return failed("watch", "generation is over")
        analysis = BackgroundAnalysis(subject_of(kube, public, world.plan, state, token.preview), "watch", log=SILENT)
        analysis.observer = lambda _sources: ScriptedObserver(world.plan, breach_at)  # type: ignore[method-assign, assignment]
        return await analysis.conclude()


async def _watched(world: World, run: StepRun, breach_after: float | None) -> None:
    """The task of the watch, beside all others; it starts the rollback DAG when it fails."""
    breach_at = None if breach_after is None else clock.monotonic() + breach_after
    if not await _as_a_task(world, partial(_watch, world, run, breach_at), patience=LONGEST_SECONDS):
        await asyncio.sleep(TO_ROLLBACK_SECONDS)
        start_rollback(world, run.run_id)


async def _beside(world: World, work: Work) -> None:
    """A task that no other one waits for."""
    world.watches.add(asyncio.ensure_future(work()))


async def _soak(world: World, run: StepRun) -> Evidence:
    """The soak, as its step and its trigger run it."""
    try:
        return await world.steps.soak.act(run)
    except TaskDeferred as deferred:
        async with run.kube() as kube:
            return Evidence.model_validate(await deferred.trigger.event(kube))  # type: ignore[attr-defined]


def start_rollback(world: World, deployment_run: str | None, run_id: str = "") -> None:
    """Through Airflow's REST API: twice is once."""
    name = run_id or f"rollback__{deployment_run}"
    if name not in world.rollbacks:
        world.rollbacks.add(name)
        world.start(name, partial(rollback, world, name, deployment_run))


async def rollback(world: World, run_id: str, deployment_run: str | None = None) -> None:
    """The rollback DAG, as far as it changes the cluster."""
    xcoms, steps = XComs("move_traffic_back"), world.steps
    params = {"reason": "a test", "deployment": deployment_run}
    run = StepRun(world.plan, {"run_id": run_id, "ti": xcoms, "params": params}, xcoms.task_id)
    works: list[Callable[[], Awaitable[Evidence | None]]] = [
        partial(steps.back.act, run), partial(steps.drain.act, run), partial(_scaling_down(steps.remove), run),
        partial(steps.rolled_back.act, run),
    ]  # fmt: skip
    try:
        for work in works:
            if not await _as_a_task(world, work):
                if FENCING_KEY in xcoms.left:
                    await _as_a_task(world, partial(steps.failed.act, run))
                return
            await asyncio.sleep(TO_NEXT_TASK_SECONDS)
    except AirflowSkipException:
        return


async def command_line(world: World) -> None:
    """``python -m handover back``; a person reads what it says and tries again."""
    cluster = world.plan.cluster
    for _ in range(5):
        try:
            async with outside().kube("", cluster.namespace) as kube:
                router = outside().router(kube, cluster, cluster.service)
                state, position = await look(kube, router, world.plan)
                await abort_or_wake(kube, router, world.plan, position, "by hand")
                await let_go(kube, world.plan, state.token, TwinAddress(world.service).token)
            return
        except (KubeError, NotReady, Killed):
            await asyncio.sleep(RETRY_SECONDS)
        except (FencedOut, promotion.Refused, NothingToRollBack):
            return


async def kubectl(world: World, colour: str) -> None:
    """A person's ``kubectl patch service``, as the plan's appendix has it, to a colour that they see running."""
    cluster = world.plan.cluster
    async with outside().kube("", cluster.namespace) as kube:
        try:
            deployment = await kube.get(DEPLOYMENTS, cluster.deployment_of(colour))
            if not (deployment.get("status") or {}).get("readyReplicas"):
                return
            world.witness.by_hand = True
            await kube.merge("services", cluster.service, {"spec": {"selector": {cluster.colour_key: colour}}})
        except KubeError:
            return


async def autoscaler(world: World, colour: str, sizes: tuple[int, ...]) -> None:
    """An HPA: it changes the size of a colour that is not asleep."""
    name = world.plan.cluster.deployment_of(colour)
    async with outside().kube("", world.plan.cluster.namespace) as kube:
        for size in sizes:
            await asyncio.sleep(world.schedule.moment(4.0))
            try:
                found = await kube.get(DEPLOYMENTS, name)
                if found["spec"].get("replicas", 1):
                    version = {"resourceVersion": found["metadata"]["resourceVersion"]}
                    await kube.merge(DEPLOYMENTS, name, {"metadata": version, "spec": {"replicas": size}})
            except KubeError:
                continue


# --- parts of these, for two at a time


def opened(world: World, *, promoted: bool) -> None:
    """A deployment that is open, with both colours ready; or at its end, with traffic on the preview colour."""
    service, plan = world.service, world.plan
    token = FencingToken(deployment="run-1", generation=1, stable="blue", preview="green")
    alive = Heartbeat(watcher="another", at=clock.epoch() + LONGEST_SECONDS, armed=True).model_dump_json()
    lease = {
        "spec": {"holderIdentity": "run-1", "leaseTransitions": 1},
        "metadata": {"annotations": as_annotations(**{"watch-another": alive})},
    }
    service.cluster.write((LEASES, service.namespace, plan.lock_name), lease)
    state = DeploymentState(
        deployment="run-1", generation=1, status=Status.DEPLOYING, version="v1.1.0", image=IMAGE, stable="blue",
        previous_version="v1.0.0", previous_image=IMAGE, preview="green", reason="a test", started_at=0.0,
        switched_at=clock.epoch() if promoted else None,
    )  # fmt: skip
    if promoted:
        _go(world, partial(promotion.overlap, token=token, at=clock.epoch()), partial(promotion.promote, token=token))
    body = {"metadata": {"annotations": {"handover/generation": "1"}}, "data": {"state": state.model_dump_json()}}
    service.cluster.write(("configmaps", service.namespace, plan.lock_name), body)


def ended(world: World) -> None:
    """A deployment that ended well: green serves, and blue sleeps."""
    opened(world, promoted=True)
    service, plan = world.service, world.plan
    token = FencingToken(deployment="run-1", generation=1, stable="blue", preview="green")
    _go(world, partial(promotion.retire, token=token), partial(promotion.finalise, token=token))
    for key, change in (
        ((LEASES, service.namespace, plan.lock_name), {"spec": {"holderIdentity": ""}}),
        ((DEPLOYMENTS, service.namespace, plan.cluster.deployment_of("blue")), {"spec": {"replicas": 0}}),
    ):
        service.cluster.write(key, merge_patch(service.cluster.objects[key], change))
    key = ("configmaps", service.namespace, plan.lock_name)
    known = DeploymentState.model_validate_json(service.cluster.objects[key]["data"]["state"])
    over = known.model_copy(update={"status": Status.SUCCEEDED})
    service.cluster.write(key, merge_patch(service.cluster.objects[key], {"data": {"state": over.model_dump_json()}}))


def _go(world: World, *steps: Callable[[Route], Route | None]) -> None:
    for step in steps:
        route = step(world.witness.route())
        assert route is not None
        key = (SERVICES, world.service.namespace, world.plan.cluster.service)
        world.service.cluster.write(key, _as_service(world, route))


def _as_service(world: World, route: Route) -> Json:
    router = outside().router(world.service.kube(), world.plan.cluster, world.plan.cluster.service)
    return merge_patch(route.revision, router._patch(route))  # type: ignore[attr-defined]


def _run_1(world: World) -> StepRun:
    xcoms = XComs("open")
    token = FencingToken(deployment="run-1", generation=1, stable="blue", preview="green")
    leave(xcoms, FENCING_KEY, token.model_dump(mode="json"))
    return StepRun(world.plan, {"run_id": "run-1", "ti": xcoms, "params": {}}, xcoms.task_id)


async def cutover(world: World) -> None:
    """`SwitchTraffic` alone."""
    await _as_a_task(world, partial(world.steps.switch.act, _run_1(world)))


async def retirement(world: World) -> None:
    """`RetireColour` alone."""
    await _as_a_task(world, partial(_scaling_down(world.steps.retire), _run_1(world)))


async def watch_alone(world: World) -> None:
    """A watch that sees a breach at once."""
    await _as_a_task(world, partial(_watch, world, _run_1(world), 0.0))


async def move_traffic_back(world: World) -> None:
    """`MoveTrafficBack` alone."""
    xcoms, params = XComs("move_traffic_back"), {"reason": "a test"}
    run = StepRun(world.plan, {"run_id": "rollback__run-1", "ti": xcoms, "params": params}, xcoms.task_id)
    with suppress(AirflowSkipException):
        await _as_a_task(world, partial(world.steps.back.act, run))


async def opening(world: World, run_id: str = "run-1") -> None:
    """`Open` alone, and what gives up after it."""

    async def opens() -> None:
        async with outside().kube("", world.plan.cluster.namespace) as kube:
            router = outside().router(kube, world.plan.cluster, world.plan.cluster.service)
            release = Release(version="v1.1.0", image=IMAGE, reason="test")
            await begin(kube, router, world.plan, run_id, release, "ready")

    if not await _as_a_task(world, opens):
        await _as_a_task(world, partial(_give_up, world, run_id))


async def second_opening(world: World) -> None:
    await opening(world, "run-2")
