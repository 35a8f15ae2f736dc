"""Knows where traffic is and how far the deployment, looked at every second, so that an abort is one request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handover.coordination import state as states
from handover.traffic.abort import Position, abort, look_for
from handover.workflows.watch.response import Standing, standing

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
"""How old the remembered route and the number of ready stable pods may be."""


class TrafficFollower:
    """``state`` is the last one of the token's generation or of a later one; ``told`` hears of every one."""

    def __init__(
        self, kube: Kube, router: Router, plan: Plan, token: FencingToken, state: DeploymentState,
        told: Callable[[DeploymentState], None] = lambda _: None, log: Any = log,
    ) -> None:  # fmt: skip
        self._kube, self._router, self._plan, self._token = kube, router, plan, token
        self.state, self._told, self._log = state, told, log
        self._said = ""
        self._position: Position | None = None
        self._looked = asyncio.Event()

    async def follow(self) -> None:
        """Until it is cancelled. Whatever goes wrong with a look is said, and looked at again."""
        while True:
            try:
                await self.look()
            except Exception as error:
                self._say(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> Position:
        """Raises `KubeError`; not where the state alone cannot be read, since where traffic is does not lie there."""
        position, state = await asyncio.gather(
            look_for(self._kube, self._router, self._plan, self._token), self._read_state()
        )
        if state is not None and state.generation >= self._token.generation:  # an older one came from a cache
            self.state, self._said = state, ""
            self._told(state)
        self._position = position
        self._looked.set()
        return position

    async def _read_state(self) -> DeploymentState | None:
        try:
            return await states.read(self._kube, self._plan.lock_name)
        except states.Damaged as error:
            self._say(error)
            return None

    def _say(self, error: Exception) -> None:
        """Once, however often it comes."""
        if (text := f"{type(error).__name__}: {error}") != self._said:
            self._said = text
            self._log.warning("where the deployment stands is not known, looking again: %s", text)

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
