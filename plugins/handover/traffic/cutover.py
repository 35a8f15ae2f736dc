"""Moves traffic to the preview colour without losing a request (plan 2.2 step 6).

Both colours serve for a moment, so that no node ever knows an endpoint of neither; then the preview colour is promoted,
real requests show that only the new version answers, and the old pods let their keep-alive connections go.
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
from handover.coordination.routing import Check, Decide, NotReady, full, move, patiently, read, until_behind
from handover.models.evidence import Measurement
from handover.models.versions import same_version
from handover.ports.kube import KubeError
from handover.ports.router import Stage
from handover.traffic.abort import let_go
from handover.traffic.drain import drain

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.public import PublicAddress
    from handover.ports.router import Route, Router

log = logging.getLogger(__name__)
REQUEST_SECONDS = 5.0
PAUSE_SECONDS = 0.02
"""Between two verifying requests."""


class CutoverFailed(Exception):
    """The preview colour does not serve; the text says where traffic is now."""


@dataclass(frozen=True)
class Cutover:
    """One cutover. ``version``: what the preview colour answers; ``fence``: raises when the lock is lost."""

    kube: Kube
    router: Router
    plan: Plan
    token: FencingToken
    version: str
    public: PublicAddress
    fence: Check

    async def run(self) -> list[Measurement]:
        """Does the cutover, or what is left of it. Raises `CutoverFailed`, `NotReady`, `Refused` or `FencedOut`."""
        cluster, begun = self.plan.cluster, clock.monotonic()
        preview, stable = cluster.selector_of(self.token.preview), cluster.selector_of(self.token.stable)
        await full(self.kube, cluster.deployment_of(self.token.preview), cluster.replicas)
        await self.fence()
        route, _ = await self._move(partial(promotion.overlap, token=self.token, at=clock.epoch()))
        if route.stage is Stage.OVERLAP:
            await self._promote(stable, preview)
        try:
            timeout = self.plan.traffic.endpoint_timeout_seconds
            await until_behind(self.kube, self.router, [preview], timeout, self._ours)
            answers = await verify(self.plan, self.public, self.version, self._ours)
        except (NotReady, CutoverFailed) as error:
            raise CutoverFailed(f"{error}; {await self._abort(str(error))}") from error
        drained = await drain(self.kube, self.plan, self.token.stable, self.public.token)
        log.info("drained %s of %s", drained, self.token.stable)
        seconds = round(clock.monotonic() - begun, 3)
        return [
            Measurement(what="switch_seconds", value=seconds, unit="s", source=self.router.name),
            Measurement(what="verified_requests", value=answers, source=f"GET {self.plan.health.path}"),
            Measurement(what="drained_pods", value=drained.pods, source=f"pods of {self.token.stable}: {drained}"),
        ]

    async def _ours(self) -> None:
        """Raises `FencedOut` when traffic was moved back, or by somebody else, since."""
        promotion.promote(await read(self.router, self.token.generation), self.token)

    async def _promote(self, stable: dict[str, str], preview: dict[str, str]) -> None:
        """From both colours to the preview one; traffic returns to the stable one if the other is not all there."""
        traffic = self.plan.traffic
        try:
            await until_behind(self.kube, self.router, [stable, preview], traffic.endpoint_timeout_seconds, self._ours)
            await asyncio.sleep(traffic.overlap_seconds)
            await until_behind(self.kube, self.router, [stable, preview], traffic.endpoint_timeout_seconds, self._ours)
            await patiently(self.fence)
            await self._move(partial(promotion.promote, token=self.token), self.token.generation)
        except (FencedOut, promotion.Refused):
            raise
        except (NotReady, KubeError) as error:
            raise CutoverFailed(f"{error}; {await self._restore(str(error))}") from error

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
            await self._move(partial(promotion.abort, token=self.token, reason=reason))
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


async def verify(plan: Plan, public: PublicAddress, version: str, meanwhile: Check) -> int:
    """Asks on new connections until ``traffic.verify_requests`` answers in a row came from this version.

    Raises `CutoverFailed` after as many bad answers as make a breach in the watch, or at the endpoint timeout; and
    what ``meanwhile`` raises, which is called after every answer that was not the wanted one.
    """
    deadline = clock.monotonic() + plan.traffic.endpoint_timeout_seconds
    header = plan.traffic.version_header.lower()
    good = bad = 0
    other = ""
    while good < plan.traffic.verify_requests:
        answer = await public.get(plan.health.path, REQUEST_SECONDS)
        problem = answer.problem or (f"status {answer.status}" if answer.status >= 500 else "")
        answered = answer.headers.get(header, "")
        if problem:
            bad += 1
            if bad >= plan.watch.min_bad_samples:
                raise CutoverFailed(f"{bad} bad answers after the promotion, the last one: {problem}")
        elif same_version(answered, version):
            good += 1
            continue
        else:
            other = answered
        good = 0
        await patiently(meanwhile)
        if clock.monotonic() > deadline:
            raise CutoverFailed(f"new connections still reach {other or 'an unnamed version'} instead of {version}")
        await asyncio.sleep(PAUSE_SECONDS)
    return good
