"""Switches and rollbacks in a row, by the product's own code and under load: what did the guests see of it?

Needs a sandbox with the parts of `pms` alone; Airflow takes no part in it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from handover.adapters import public_http
from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adapters.service_router import ServiceRouter
from handover.coordination import lock, state
from handover.coordination.routing import DEPLOYMENTS, NotReady, full
from handover.models.deployment import DeploymentState, FencingToken, Status
from handover.plan.load import load_plan
from handover.plan.model import Plan
from handover.ports.kube import Kube
from handover.ports.public import PublicAddress
from handover.ports.router import Route
from handover.traffic.abort import abort, let_go, look
from handover.traffic.cutover import Cutover
from handover.traffic.drain import undrain
from handover.workload.manifests import deployment
from sandbox.crowds import Guests
from sandbox.kubernetes import Cluster
from sandbox.kubernetes.processes import memory
from sandbox.settings import REPOSITORY, SandboxError
from sandbox.stack import Sandbox

SWITCHES, ROLLBACKS = 20, 5
RATE = 300.0
"""Requests a second."""
PAUSE_SECONDS = 1.5
"""Between two moves."""
LET_GO_SECONDS = 1.0
"""So long after the old pods were told to let go, no client may reach them any more: on a kept connection each has one
more answer, which says ``Connection: close``."""
ROLLOUT_SECONDS = 90
VERSIONS = {"blue": "v1.0.0", "green": "v1.1.0"}


@dataclass(frozen=True)
class Answer:
    """One answered request; ``began`` in Unix seconds, ``fresh`` when its connection was new."""

    began: float
    version: str
    fresh: bool


@dataclass(frozen=True)
class Move:
    """Traffic went from one version to another. Unix seconds; ``first_patch`` and ``last_patch`` of the Service."""

    kind: str
    """``switch`` or ``rollback``."""
    old: str
    new: str
    began: float
    first_patch: float
    last_patch: float
    drained: float


@dataclass(frozen=True)
class MoveSeen:
    """What came of one move. Seconds since the last patch, in which the old version was still given requests."""

    kind: str
    old_on_new_connections: float
    old_on_any_connection: float
    patches_apart: float
    """Seconds between the first patch (both colours) and the last one."""
    wrong_version_after_drain: int


class TimedRouter(ServiceRouter):
    """Remembers when the Service was patched."""

    def __init__(self, kube: Kube, plan: Plan) -> None:
        super().__init__(kube, plan.cluster, plan.cluster.service)
        self.patches: list[float] = []

    async def swap(self, route: Route) -> Route:
        self.patches.append(time.time())
        return await super().swap(route)


def cutover(
    endpoints: dict[str, Any], plan: Plan, folder: Path, *, switches: int = SWITCHES, rollbacks: int = ROLLBACKS,
    rate: float = RATE,
) -> dict[str, Any]:  # fmt: skip
    """Makes the moves while guests send requests; gives the report of `summary`.

    :param folder: where the guests write what they saw
    :param rate: requests a second
    """
    asyncio.run(prepare(endpoints, plan))
    with Guests(endpoints, folder, rate=rate, every_answer=True) as guests:
        moves = asyncio.run(_moves(endpoints, plan, switches, rollbacks))
        time.sleep(PAUSE_SECONDS)
    return summary(guests.report(), moves, list(read_answers(guests.answers)))


def measure(home: Path, cluster: Path | None, console: Console) -> bool:
    """On a sandbox of its own; prints what was seen and writes ``home/cluster.json``. True if nothing was lost."""
    described = Cluster.read(cluster) if cluster else None
    plan = load_plan(REPOSITORY / "include" / "plans" / "pms.yaml", REPOSITORY / "sandbox" / "overlay.yaml")
    console.print(f"{SWITCHES} switches and {ROLLBACKS} rollbacks at {RATE:g} requests/s, about two minutes ...")
    with Sandbox(home / "cutover", small=True, only=["pms"], cluster=described) as running:
        report = cutover(running.endpoints, plan, running.home)
    if described:
        report["cluster_started_seconds"] = described.started_seconds
        report["cluster_memory_bytes"] = memory(described.init_pid)
    (home / "cluster.json").write_text(json.dumps(report, indent=1) + "\n")
    for name in ("requests", "requests_per_second", "failed", "wrong_version_after_drain", "streams", "websockets"):
        console.print(f"{name:<28} {report[name]}")
    for kind, seconds in report["seconds_from_patch_to_last_request_on_old"].items():
        console.print(f"{kind:<28} last request on the old version {seconds} s after the last patch")
    return not report["failed"] and not report["wrong_version_after_drain"]


def summary(report: dict[str, Any], moves: Sequence[Move], answers: Sequence[Answer]) -> dict[str, Any]:
    seen = list(judge(moves, answers))
    return {
        "switches": sum(move.kind == "switch" for move in moves),
        "rollbacks": sum(move.kind == "rollback" for move in moves),
        "requests": report["sent"],
        "requests_per_second": round(report["sent"] / report["seconds"], 1),
        "failed": report["failed"],
        "failed_by_kind": report["failed_by_kind"],
        "bad_answers": report["bad_answers"],
        "wrong_version_after_drain": sum(one.wrong_version_after_drain for one in seen),
        "streams": report["streams"],
        "websockets": report["sockets"],
        "latency_ms": report["latency_ms"],
        "seconds_from_patch_to_last_request_on_old": {
            kind: _spread([one.old_on_new_connections for one in seen if one.kind == kind])
            for kind in ("switch", "rollback")
        },
        "seconds_by_move": [asdict(one) for one in seen],
    }


def judge(moves: Sequence[Move], answers: Iterable[Answer]) -> Iterator[MoveSeen]:
    """What came of each move, from the answers that were sent for between it and the next. Pure."""
    ordered = sorted(answers, key=lambda answer: answer.began)
    ends = [move.began for move in moves[1:]] + [float("inf")]
    for move, end in zip(moves, ends, strict=True):
        old = [a for a in ordered if move.last_patch < a.began < end and a.version == move.old]
        late = [a for a in old if a.began > move.drained + LET_GO_SECONDS]
        yield MoveSeen(
            kind=move.kind,
            old_on_new_connections=_latest((a.began for a in old if a.fresh), move.last_patch),
            old_on_any_connection=_latest((a.began for a in old), move.last_patch),
            patches_apart=round(move.last_patch - move.first_patch, 3),
            wrong_version_after_drain=len(late),
        )


def _latest(times: Iterable[float], since: float) -> float:
    return round(max((at - since for at in times), default=0.0), 3)


def _spread(values: list[float]) -> dict[str, float] | None:
    return {"median": round(statistics.median(values), 3), "worst": max(values)} if values else None


def read_answers(path: Path) -> Iterator[Answer]:
    """What guests wrote with ``every_answer``."""
    for line in path.read_text().splitlines():
        began, version, fresh = line.split()
        yield Answer(float(began), version, fresh == "1")


async def prepare(endpoints: dict[str, Any], plan: Plan) -> None:
    """The green colour beside the blue one, at full size."""
    cluster = plan.cluster
    async with connect_with_kubeconfig(endpoints["kubeconfig"], cluster.namespace) as kube:
        green = deployment(plan, "green", VERSIONS["green"], endpoints["images"][VERSIONS["green"]], 0)
        await kube.apply(DEPLOYMENTS, green)
        deadline = time.monotonic() + ROLLOUT_SECONDS
        while True:
            try:
                await full(kube, cluster.deployment_of("green"), cluster.replicas)
                return
            except NotReady as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"the second colour does not start: {error}") from None
            await asyncio.sleep(0.2)


async def _moves(endpoints: dict[str, Any], plan: Plan, switches: int, rollbacks: int) -> list[Move]:
    async with (
        connect_with_kubeconfig(endpoints["kubeconfig"], plan.cluster.namespace) as kube,
        public_http.at(endpoints["public"], endpoints["hotel"]["admin_token"]) as public,
    ):
        return await moves_of(kube, plan, public, switches, rollbacks)


async def moves_of(
    kube: Kube, plan: Plan, public: PublicAddress, switches: int = SWITCHES, rollbacks: int = ROLLBACKS
) -> list[Move]:
    """As many switches as asked for, the last of every few taken back."""
    moves: list[Move] = []
    every = max(1, switches // max(1, rollbacks))
    serving = (await TimedRouter(kube, plan).read()).colour or ""
    for number in range(1, switches + 1):
        idle = plan.cluster.other(serving)
        token = await begin(kube, plan, number, serving, idle)
        await undrain(kube, plan, idle, public.token)
        moves.append(await switch(kube, plan, token, public))
        await asyncio.sleep(PAUSE_SECONDS)
        if number % every == 0 and sum(move.kind == "rollback" for move in moves) < rollbacks:
            moves.append(await back(kube, plan, token, public))
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            serving = idle
    return moves


async def begin(kube: Kube, plan: Plan, number: int, old: str, new: str) -> FencingToken:
    """Lock and state of one more deployment."""
    name = f"cutover-{number}"
    generation = await lock.acquire(kube, plan.lock_name, name, "measuring", take_over=True)
    known = DeploymentState(
        deployment=name, generation=generation, status=Status.DEPLOYING, version=VERSIONS[new], image="",
        previous_version=VERSIONS[old], previous_image="", stable=old, preview=new, reason="measuring",
        started_at=time.time(),
    )  # fmt: skip
    await state.write(kube, plan.lock_name, known)
    return FencingToken(deployment=name, generation=generation, stable=old, preview=new)


async def switch(kube: Kube, plan: Plan, token: FencingToken, public: PublicAddress) -> Move:
    async def fence() -> None:
        await lock.fence(kube, plan.lock_name, token)

    began, router = time.time(), TimedRouter(kube, plan)
    await Cutover(kube, router, plan, token, VERSIONS[token.preview], public, fence).run()
    old, new = VERSIONS[token.stable], VERSIONS[token.preview]
    return Move("switch", old, new, began, router.patches[0], router.patches[-1], time.time())


async def back(kube: Kube, plan: Plan, token: FencingToken, public: PublicAddress) -> Move:
    began, router = time.time(), TimedRouter(kube, plan)
    _, position = await look(kube, router, plan)
    await abort(router, plan, position, "measuring")
    await let_go(kube, plan, token, public.token)
    old, new = VERSIONS[token.preview], VERSIONS[token.stable]
    return Move("rollback", old, new, began, router.patches[0], router.patches[-1], time.time())
