"""Moves traffic to the new colour without losing a request (plan 2.2 step 6).

Both colours serve for a moment, so that no node ever knows an endpoint of neither; then the Service is narrowed, real
requests show that only the new version answers, and the old pods let their keep-alive connections go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pms.kube.client import KubeError
from pms.kube.lock import FencedOut
from pms.models.evidence import Measurement
from pms.traffic import switch
from pms.traffic.api import Api
from pms.traffic.back import let_go
from pms.traffic.drain import drain
from pms.traffic.service import SERVICES, Check, NotReady, change, full, patiently, until_behind

if TYPE_CHECKING:
    import aiohttp

    from pms.kube.client import Json, Kube
    from pms.models.deployment import Ticket
    from pms.plan.model import Plan

log = logging.getLogger(__name__)
REQUEST_SECONDS = 5.0
PAUSE_SECONDS = 0.02
"""Between two verifying requests."""


class SwitchFailed(Exception):
    """The new colour does not serve; the text says where traffic is now."""


@dataclass(frozen=True)
class Forward:
    """One switch. ``version``: what the new colour answers; ``fence``: raises when the lock is lost."""

    kube: Kube
    plan: Plan
    ticket: Ticket
    version: str
    api: Api
    fence: Check

    async def run(self) -> list[Measurement]:
        """Does the switch, or what is left of it. Raises `SwitchFailed`, `NotReady`, `Refused` or `FencedOut`."""
        cluster, begun = self.plan.cluster, time.monotonic()
        new, old = cluster.selector_of(self.ticket.new_colour), cluster.selector_of(self.ticket.old_colour)
        await full(self.kube, cluster.deployment_of(self.ticket.new_colour), cluster.replicas)
        await self.fence()
        service, _ = await self._change(switch.overlap)
        if switch.read(service, cluster).traffic is switch.Traffic.BOTH:
            await self._narrow(old, new)
        try:
            timeout = self.plan.traffic.endpoint_timeout_seconds
            await until_behind(self.kube, cluster.service, [new], timeout, self._ours)
            answers = await verify(self.plan, self.api.url, self.version, self._ours)
        except (NotReady, SwitchFailed) as error:
            raise SwitchFailed(f"{error}; {await self._back(str(error))}") from error
        drained = await drain(self.kube, self.plan, self.ticket.old_colour, self.api.token)
        log.info("drained %s of %s", drained, self.ticket.old_colour)
        seconds = round(time.monotonic() - begun, 3)
        return [
            Measurement(what="switch_seconds", value=seconds, unit="s", source=f"service {cluster.service}"),
            Measurement(what="verified_requests", value=answers, source=f"GET {self.plan.health.path}"),
            Measurement(what="drained_pods", value=drained.pods, source=f"pods of {self.ticket.old_colour}: {drained}"),
        ]

    async def _ours(self) -> None:
        """Raises `FencedOut` when traffic was moved back, or by somebody else, since."""
        service = await self.kube.get(SERVICES, self.plan.cluster.service)
        switch.narrow(service, self.plan.cluster, self.ticket)

    async def _narrow(self, old: dict[str, str], new: dict[str, str]) -> None:
        """From both colours to the new one; traffic returns to the old one if the new one is not all there."""
        traffic, service = self.plan.traffic, self.plan.cluster.service
        try:
            await until_behind(self.kube, service, [old, new], traffic.endpoint_timeout_seconds, self._ours)
            await asyncio.sleep(traffic.overlap_seconds)
            await until_behind(self.kube, service, [old, new], traffic.endpoint_timeout_seconds, self._ours)
            await patiently(self.fence)
            await self._change(switch.narrow)
        except (FencedOut, switch.Refused):
            raise
        except (NotReady, KubeError) as error:
            raise SwitchFailed(f"{error}; {await self._restore(str(error))}") from error

    async def _restore(self, reason: str) -> str:
        """The old selector again. If that cannot be confirmed, both colours go on serving."""
        try:
            await self._change(partial(switch.restore, reason=reason))
        except switch.Refused as error:
            return str(error)
        except KubeError as error:
            return f"the old selector could not be restored, so both colours serve: {error}"
        return f"traffic is on {self.ticket.old_colour} again"

    async def _back(self, reason: str) -> str:
        try:
            await self._change(partial(switch.back, reason=reason))
        except (FencedOut, KubeError) as error:
            return f"traffic could not be moved back from here: {error}"
        kept, drained = await let_go(self.kube, self.plan, self.ticket, self.api.token)
        old, new = self.ticket.old_colour, self.ticket.new_colour
        log.info("drained %s of %s; %s keeps connections: %s", drained, new, old, kept)
        return f"traffic is back on {self.ticket.old_colour}"

    async def _change(self, intent: Callable[..., switch.Patch | None]) -> tuple[Json, bool]:
        cluster = self.plan.cluster
        decide = partial(intent, cluster=cluster, ticket=self.ticket)
        service, changed = await change(self.kube, cluster.service, decide)
        log.info("%s%s", switch.read(service, cluster), "" if changed else " already")
        return service, changed


async def verify(plan: Plan, url: str, version: str, meanwhile: Check) -> int:
    """Asks on new connections until ``traffic.verify_requests`` answers in a row came from this version.

    Raises `SwitchFailed` after as many bad answers as make a breach in the watch, or at the endpoint timeout; and
    what ``meanwhile`` raises, which is called after every answer that was not the wanted one.
    """
    import aiohttp

    deadline = time.monotonic() + plan.traffic.endpoint_timeout_seconds
    good = bad = 0
    other = ""
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as http:
        while good < plan.traffic.verify_requests:
            answered, problem = await _ask(http, f"{url}{plan.health.path}", plan.traffic.version_header)
            if problem:
                bad += 1
                if bad >= plan.watch.min_bad_samples:
                    raise SwitchFailed(f"{bad} bad answers after the switch, the last one: {problem}")
            elif answered.removeprefix("v") == version.removeprefix("v"):
                good += 1
                continue
            else:
                other = answered
            good = 0
            await patiently(meanwhile)
            if time.monotonic() > deadline:
                raise SwitchFailed(f"new connections still reach {other or 'an unnamed version'} instead of {version}")
            await asyncio.sleep(PAUSE_SECONDS)
    return good


async def _ask(http: aiohttp.ClientSession, url: str, header: str) -> tuple[str, str]:
    """The version that answered, and what is wrong with the answer ("" for nothing)."""
    import aiohttp

    try:
        async with http.get(url, headers={"User-Agent": "pms-deployer"}) as answer:
            await answer.read()
            return answer.headers.get(header, ""), "" if answer.status < 500 else f"status {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return "", f"{type(error).__name__}: {error}"
