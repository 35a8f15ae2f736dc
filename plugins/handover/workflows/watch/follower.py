"""Knows where traffic is and how far the deployment, looked at every second, so that an abort is one request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from handover.coordination import state as states
from handover.ports.kube import KubeError
from handover.traffic.abort import Position, abort, look_for
from handover.workflows.watch.response import Standing, standing

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router

LOOK_SECONDS = 1.0
"""How old the remembered route and the number of ready stable pods may be."""


class TrafficFollower:
    """``state`` is the last one of the token's generation or of a later one; ``told`` hears of every one."""

    def __init__(
        self, kube: Kube, router: Router, plan: Plan, token: FencingToken, state: DeploymentState,
        told: Callable[[DeploymentState], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._kube, self._router, self._plan, self._token = kube, router, plan, token
        self.state, self._told = state, told
        self._position: Position | None = None
        self._looked = asyncio.Event()

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            with contextlib.suppress(KubeError):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> Position:
        """Raises `KubeError`."""
        position, state = await asyncio.gather(
            look_for(self._kube, self._router, self._plan, self._token), states.read(self._kube, self._plan.lock_name)
        )
        if state is not None and state.generation >= self._token.generation:  # an older one came from a cache
            self.state = state
            self._told(state)
        self._position = position
        self._looked.set()
        return position

    async def other_than(self, known: Standing) -> tuple[Standing, str]:
        """Waits until the version stands somewhere else, and says why."""
        while True:
            await self._looked.wait()
            self._looked.clear()
            now, reason = self.standing()
            if now is not known:
                return now, reason

    def standing(self) -> tuple[Standing, str]:
        """By the last look."""
        assert self._position
        return standing(self._position.route, self.state, self._token)

    async def abort(self, reason: str) -> bool:
        """Gives whether that was needed; raises what `handover.traffic.abort.abort` raises."""
        if self._position is None or not self._position.can_move:
            await self.look()
        assert self._position
        _, changed = await abort(self._router, self._plan, self._position, reason, finalised_too=False)
        return changed
