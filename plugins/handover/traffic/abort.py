"""Moves traffic back to the stable colour in as few round trips as possible, from the cluster's own facts alone.

Serves the watch, the rollback DAG and the command line. The latter two have no token: what was deployed, and which
colour is the stable one, lies in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from handover.coordination import promotion
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.coordination.routing import DEPLOYMENTS, NotReady, move, patiently
from handover.coordination.size import declared, grow, until_full
from handover.coordination.state import Damaged
from handover.models.annotations import as_annotations, notes
from handover.models.deployment import DeploymentState, Status
from handover.ports.kube import KubeError
from handover.traffic import by_route
from handover.traffic.back import Address, go_back, public_address
from handover.traffic.drain import Drained, drain, undrain

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Route, Router

log = logging.getLogger(__name__)
DRAIN_SECONDS = 3.0


class NothingToRollBack(Exception):
    """There is no such deployment; nothing was touched."""


@dataclass(frozen=True)
class Position:
    """What has to be known before traffic moves back. ``ready``: ready pods of the stable colour; ``wanted``: as many
    as the preview colour has or is to have, and the plan says; ``version``: what the stable colour answers, "" when
    nobody knows.
    """

    token: FencingToken
    route: Route
    ready: int
    wanted: int = 0
    version: str = ""
    preview_version: str = ""
    """What is deployed on the preview colour, "" for nothing."""

    def shows(self, version: str) -> bool:
        """Whether clients meet this version, by whosever hand."""
        return self.token.preview in self.route.serving and self.preview_version == version

    @property
    def on_stable(self) -> bool:
        """Whether new connections reach the stable colour alone."""
        return self.route.colour == self.token.stable

    @property
    def can_move(self) -> bool:
        return self.on_stable or self.ready > 0

    @property
    def weak(self) -> bool:
        """Whether the stable colour has fewer pods than served clients until now."""
        return self.ready < self.wanted and self.route.exposed_at is not None


async def look(
    kube: Kube, router: Router, plan: Plan, deployment: str | None = None, *, traffic_alone: bool = False
) -> tuple[DeploymentState, Position]:
    """Raises `NothingToRollBack`, and `Damaged`.

    :param deployment: the run to roll back; None for the current one
    :param traffic_alone: no more is wanted than that: where the state of the deployment is gone or damaged, what the
        Service says is enough
    """
    state, route, found = await _read(kube, router, plan)
    if not isinstance(state, DeploymentState):
        if not (traffic_alone and by_route.says_enough(plan, route)):
            raise state or NothingToRollBack(_nothing(plan, route))
        state = await _by_route(kube, plan, route, found, state)
    if deployment and deployment != state.deployment:
        raise NothingToRollBack(
            f"there is no deployment {deployment} to roll back: the current one is {state.deployment} "
            f"({state.version}, {state.status}); nothing was touched"
        )
    if state.status is Status.GIVEN_UP:
        raise NothingToRollBack(f"{state.deployment} was given up before anything was changed; nothing was touched")
    return state, _position(plan, state.token, route, found, state.previous_version)


async def read(kube: Kube, router: Router, plan: Plan) -> tuple[DeploymentState | None, Route, dict[str, Json | None]]:
    """Everything at once, in one round trip: what is deployed, the route, and the Deployment of each colour. Raises
    `Damaged`.
    """
    state, route, found = await _read(kube, router, plan)
    if isinstance(state, Damaged):
        raise state
    return state, route, found


async def _read(
    kube: Kube, router: Router, plan: Plan
) -> tuple[DeploymentState | Damaged | None, Route, dict[str, Json | None]]:
    cluster = plan.cluster
    state, route, colours = await asyncio.gather(
        _state(kube, plan),
        router.read(),
        asyncio.gather(*(kube.find(DEPLOYMENTS, cluster.deployment_of(colour)) for colour in cluster.colours)),
    )
    return state, route, dict(zip(cluster.colours, colours, strict=True))


async def _state(kube: Kube, plan: Plan) -> DeploymentState | Damaged | None:
    """What is damaged is told apart from what is not there."""
    try:
        state = await states.read(kube, plan.lock_name)
    except Damaged as error:
        return error
    if state and {state.stable, state.preview} != set(plan.cluster.colours):
        colours = f"{state.stable} and {state.preview}"
        return Damaged(
            0, f"the deployment's state in ConfigMap {plan.lock_name} is of {colours}, no colours of the plan"
        )
    return state


def _nothing(plan: Plan, route: Route) -> str:
    known = f": ConfigMap {plan.lock_name} holds no state, though {route}; `python -m handover back` moves traffic back"
    return f"there is no deployment to roll back{known if by_route.says_enough(plan, route) else ''}"


async def _by_route(
    kube: Kube, plan: Plan, route: Route, found: dict[str, Json | None], damaged: Damaged | None
) -> DeploymentState:
    why = str(damaged or f"ConfigMap {plan.lock_name} holds no state of a deployment")
    versions = {colour: _written(deployment) for colour, deployment in found.items()}
    state = await by_route.known(kube, plan, route, versions, why)
    if isinstance(state, str):
        raise NothingToRollBack(state)
    return state


async def look_for(kube: Kube, router: Router, plan: Plan, token: FencingToken) -> Position:
    """The position for whoever holds a token."""
    name = plan.cluster.deployment_of
    route, stable, preview = await asyncio.gather(
        router.read(), kube.find(DEPLOYMENTS, name(token.stable)), kube.find(DEPLOYMENTS, name(token.preview))
    )
    return _position(plan, token, route, {token.stable: stable, token.preview: preview})


def _position(
    plan: Plan, token: FencingToken, route: Route, colours: dict[str, Json | None], version: str = ""
) -> Position:
    stable, preview = colours.get(token.stable), colours.get(token.preview)
    wanted = max(plan.cluster.replicas, declared(preview), _ready(preview))
    return Position(token, route, _ready(stable), wanted, version or _written(stable), _written(preview))


def _written(deployment: Json | None) -> str:
    return notes(deployment).get("version", "") if deployment else ""


def _ready(deployment: Json | None) -> int:
    return ((deployment or {}).get("status") or {}).get("readyReplicas") or 0


async def abort(
    router: Router, plan: Plan, position: Position, reason: str, *, finalised_too: bool = True,
    address: Address = public_address,
) -> tuple[Route, bool]:  # fmt: skip
    """One change; gives the route then, and whether it was needed. Running it twice is fine, and so is a position that
    is not fresh any more. Two changes where `promotion.rejoin` says so, see `go_back`.

    Raises `NotReady` when the stable colour has no ready pod, `Asleep` when it is about to have none (nothing was
    changed), and `FencedOut` when traffic is a newer deployment's.

    :param finalised_too: see `promotion.abort`
    :param address: where to ask whether clients reach the stable colour, where that takes time
    """
    if not position.can_move:
        name = plan.cluster.deployment_of(position.token.stable)
        raise NotReady(f"{name} has no ready pod, so traffic would go nowhere; nothing was changed")
    route, changed = await go_back(
        router, plan, position.token, reason, position.version, known=position.route, finalised_too=finalised_too,
        address=address,
    )  # fmt: skip
    log.info("%s%s", route, "" if changed else " already")
    if position.weak:
        log.warning("%s", _weak(plan, position))
    return route, changed


async def abort_or_wake(
    kube: Kube, router: Router, plan: Plan, position: Position, reason: str, *, address: Address = public_address,
    say: Callable[[str], None] = log.warning,
) -> tuple[Route, bool]:  # fmt: skip
    """The same, but a stable colour that sleeps (after a deployment that ended well) is woken first, and one that has
    shrunk is scaled up behind traffic.

    :param say: hears that traffic went to fewer pods than it needs
    """
    try:
        moved = await abort(router, plan, position, reason, address=address)
    except (NotReady, promotion.Asleep) as error:
        log.info("%s", error)
        await move(router, partial(promotion.hold, token=position.token, reason=reason))
        await wake(kube, plan, position)
        position = await look_for(kube, router, plan, position.token)
        moved = await abort(router, plan, position, reason, address=address)
    if weak := await strengthen(kube, router, plan, position):
        say(weak)
    return moved


async def strengthen(kube: Kube, router: Router, plan: Plan, position: Position) -> str:
    """After traffic went back at once to a stable colour with fewer pods than served until then: scales it up and says
    so; "" when it has enough. Never raises: traffic is back.
    """
    if not position.weak:
        return ""
    token, name = position.token, plan.cluster.deployment_of(position.token.stable)

    async def serves() -> None:
        if token.stable not in (route := await router.read()).serving:
            raise FencedOut(f"{route}; {name} is not scaled up")

    try:
        await patiently(partial(grow, kube, name, position.wanted, serves, woken_by=token.deployment))
    except (FencedOut, KubeError) as error:
        return f"{_weak(plan, position)}, which could not be scaled up: {error}"
    return f"{_weak(plan, position)}; {name} is scaled to {position.wanted}"


def _weak(plan: Plan, position: Position) -> str:
    name = plan.cluster.deployment_of(position.token.stable)
    return (
        f"WARNING: traffic had to go at once to {position.ready} of the {position.wanted} pods that it needs on {name}"
    )


async def wake(kube: Kube, plan: Plan, position: Position) -> None:
    """Scales the stable colour up and waits until it is ready. Whoever has read it to scale it down has to read it
    again: its generation is written into it.

    Raises `NotReady` when it has no ready pod after ``rollback.old_colour_timeout_seconds``.
    """
    token, name = position.token, plan.cluster.deployment_of(position.token.stable)
    wanted = max(position.wanted, declared(await patiently(partial(kube.get, DEPLOYMENTS, name))))
    log.info("%s is scaled to %s", name, wanted)
    woken = {"metadata": {"annotations": as_annotations(woken_by=token.deployment)}, "spec": {"replicas": wanted}}
    await patiently(partial(kube.merge, DEPLOYMENTS, name, woken))
    try:
        await until_full(kube, name, wanted, plan.rollback.old_colour_timeout_seconds)
    except NotReady as error:
        if not _ready(await patiently(partial(kube.get, DEPLOYMENTS, name))):
            raise NotReady(f"{error}: traffic was not moved") from None
        log.warning("%s: traffic goes to those that there are", error)


async def let_go(
    kube: Kube, plan: Plan, token: FencingToken, drain_token: str, timeout: float = DRAIN_SECONDS
) -> tuple[Drained, Drained]:
    """After traffic moved back: the stable pods keep connections again, and those of the preview ones move over."""
    return await asyncio.gather(
        undrain(kube, plan, token.stable, drain_token, timeout), drain(kube, plan, token.preview, drain_token, timeout)
    )
