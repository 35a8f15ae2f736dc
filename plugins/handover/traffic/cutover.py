"""Moves traffic to the preview colour without losing a request (plan 2.2 step 6).

Both colours serve until the public address has answered from the new version, so that neither a node nor whatever lies
before them ever knows an endpoint of neither; then the preview colour is promoted, real requests show that only the new
version answers, and the old pods let their keep-alive connections go.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination import promotion
from handover.coordination.lock import FencedOut
from handover.coordination.routing import (
    DEPLOYMENTS,
    Check,
    Decide,
    NotReady,
    full,
    move,
    patiently,
    read,
    shortage,
    until_behind,
)
from handover.coordination.size import declared, grow, needed, until_full
from handover.models.evidence import Measurement
from handover.ports.kube import KubeError
from handover.ports.router import Stage
from handover.traffic.abort import let_go
from handover.traffic.back import go_back
from handover.traffic.drain import drain
from handover.traffic.reach import ALONE, AMONG_OTHERS, BadAnswers, Reach, Reached

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.public import PublicAddress
    from handover.ports.router import Route, Router

log = logging.getLogger(__name__)
GROWING_POLL_SECONDS = 0.5
SPREAD = 2
"""The overlap takes so many times as long as the first pod took to be let in: the last one may take twice that."""


class CutoverFailed(Exception):
    """The preview colour does not serve; the text says where traffic is now."""


@dataclass(frozen=True)
class Cutover:
    """One cutover. ``version``: what the preview colour answers; ``stable_version``: what the other one does, "" when
    nobody knows; ``fence``: raises when the lock is lost.
    """

    kube: Kube
    router: Router
    plan: Plan
    token: FencingToken
    version: str
    public: PublicAddress
    fence: Check
    stable_version: str = ""

    async def run(self) -> list[Measurement]:
        """Does the cutover, or what is left of it. Raises `CutoverFailed`, `NotReady`, `Refused` or `FencedOut`."""
        cluster, begun = self.plan.cluster, clock.monotonic()
        preview = cluster.selector_of(self.token.preview)
        if (await patiently(self.router.read)).colour == self.token.preview:
            await full(self.kube, cluster.deployment_of(self.token.preview), cluster.replicas)
        else:
            await self._as_many_as_serve()
        await self.fence()
        route, begins = await self._move(partial(promotion.overlap, token=self.token, at=clock.epoch()))
        met: Reached | None = None
        try:
            if route.stage is Stage.OVERLAP:
                met = await self._promote(route, resumed=not begins)
            timeout = self.plan.traffic.endpoint_timeout_seconds
            await until_behind(self.kube, self.router, [preview], timeout, self._ours)
            answered = met.answered if met else None
            verified = await self._reach.until(ALONE, timeout, answered)
        except (NotReady, BadAnswers) as error:
            raise CutoverFailed(f"{error}; {await self._abort(str(error))}") from error
        drained = await drain(self.kube, self.plan, self.token.stable, self.public.token)
        log.info("drained %s of %s", drained, self.token.stable)
        seconds = round(clock.monotonic() - begun, 3)
        entry = [
            Measurement(what="entry_seconds", value=round(met.first, 3), unit="s", source="the public address")
        ] if met else []  # fmt: skip
        return [
            Measurement(what="switch_seconds", value=seconds, unit="s", source=self.router.name),
            *entry,
            Measurement(what="verified_requests", value=verified.answers, source=f"GET {self._reach.path}"),
            Measurement(what="drained_pods", value=drained.pods, source=f"pods of {self.token.stable}: {drained}"),
        ]

    @property
    def _reach(self) -> Reach:
        wanted = self.plan.said_by(self.token.preview, self.version)
        return Reach(self.plan, self.public, wanted, self._ours)

    async def _ours(self) -> None:
        """Raises `FencedOut` when traffic was moved back, or by somebody else, since."""
        promotion.promote(await read(self.router, self.token.generation), self.token)

    async def _as_many_as_serve(self) -> bool:
        """Waits until as many pods of the preview colour are available as serve now. Gives whether it had to grow.

        Raises `NotReady`.
        """
        kube, cluster, name = self.kube, self.plan.cluster, self.plan.cluster.deployment_of(self.token.preview)

        async def look() -> tuple[int, Json]:
            return await asyncio.gather(needed(kube, cluster, self.token.stable), kube.get(DEPLOYMENTS, name))

        pods, preview = await patiently(look)
        if declared(preview) < pods:
            log.info("%s is scaled from %s to %s pods: so many serve", name, declared(preview), pods)
            await patiently(partial(grow, kube, name, pods, self.fence, generation=str(self.token.generation)))
            await until_full(kube, name, pods, cluster.rollout_timeout_seconds, self.fence, GROWING_POLL_SECONDS)
            return True
        if shortage(preview, pods):
            await until_full(kube, name, pods, self.plan.traffic.endpoint_timeout_seconds)
        return False

    async def _promote(self, route: Route, *, resumed: bool) -> Reached | None:
        """From both colours to the preview one, once the public address answers from it; traffic returns to the stable
        one if the other is not all there. Gives nothing where one client cannot see both, or answers do not tell.

        How long that took is kept for the way back. Who goes on with a cutover that was killed has not seen its
        beginning, and keeps the most that it can have been.
        """
        before = clock.epoch() - (route.exposed_at or clock.epoch()) if resumed else 0.0
        cluster, timeout = self.plan.cluster, self.plan.traffic.endpoint_timeout_seconds
        both = [cluster.selector_of(self.token.stable), cluster.selector_of(self.token.preview)]
        met: Reached | None = None
        try:
            while True:
                await until_behind(self.kube, self.router, both, timeout, self._ours)
                met = await self._let_in(route, met)
                if not await self._as_many_as_serve():
                    break
            await until_behind(self.kube, self.router, both, timeout, self._ours)
            await patiently(self.fence)
            entry = before + met.first if met else None
            await self._move(partial(promotion.promote, token=self.token, entry_seconds=entry), self.token.generation)
        except (NotReady, KubeError) as error:
            raise CutoverFailed(f"{error}; {await self._restore(str(error))}") from error
        return met

    async def _let_in(self, route: Route, before: Reached | None) -> Reached | None:
        """Both serve until the public address has let the preview colour in, with time for the last pod of it.

        :param before: how it was let in before it had to grow: its new pods take as long
        """
        traffic, begun = self.plan.traffic, clock.monotonic()
        blind = route.sticky or traffic.origin is None
        met = None if blind else await self._reach.until(AMONG_OTHERS, traffic.public_timeout_seconds)
        longest = max(before, met, key=lambda one: one.first) if before and met else met
        least = max(traffic.overlap_seconds, traffic.entry_seconds or 0.0, SPREAD * (longest.first if longest else 0))
        await asyncio.sleep(max(0.0, least - (clock.monotonic() - begun)))
        return longest

    async def _restore(self, reason: str) -> str:
        """The stable colour alone again. If that cannot be confirmed, both colours go on serving."""
        try:
            await self._move(partial(promotion.restore, token=self.token, reason=reason), self.token.generation)
        except promotion.Refused as error:
            return str(error)
        except KubeError as error:
            return f"the route could not be restored, so both colours serve: {error}"
        return f"traffic is on {self.token.stable} again"

    async def _abort(self, reason: str) -> str:
        try:
            await go_back(self.router, self.plan, self.token, reason, self.stable_version)
        except (FencedOut, KubeError) as error:
            return f"traffic could not be moved back from here: {error}"
        kept, drained = await let_go(self.kube, self.plan, self.token, self.public.token)
        stable, preview = self.token.stable, self.token.preview
        log.info("drained %s of %s; %s keeps connections: %s", drained, preview, stable, kept)
        return f"traffic is back on {stable}"

    async def _move(self, decide: Decide, at_least: int = 0) -> tuple[Route, bool]:
        route, changed = await move(self.router, decide, at_least=at_least)
        log.info("%s%s", route, "" if changed else " already")
        return route, changed
