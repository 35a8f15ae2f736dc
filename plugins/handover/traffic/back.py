"""The way back itself: at once, or with both colours for a moment where clients would meet nobody else.

A load balancer that has pod addresses as targets drops a pod at once and lets one in only after its health checks. What
lies before the service is known from the plan, or from the cutover, which has measured it and left it on the route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination import promotion
from handover.coordination.routing import NotReady, move
from handover.outside import outside
from handover.traffic.reach import AMONG_OTHERS, Reach

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken
    from handover.plan.model import Plan
    from handover.ports.public import PublicAddress
    from handover.ports.router import Route, Router

log = logging.getLogger(__name__)
SLOW_ENTRY_SECONDS = 1.5
"""What was seen to take longer is no node that learns of an endpoint: nodes forget the old one no sooner."""
LEAST_REJOIN_SECONDS, REJOIN_TIMES = 10.0, 2
"""How long both colours serve at most on the way back: so many times as long as the way forward took to be let in."""
Address = Callable[["Plan"], AbstractAsyncContextManager["PublicAddress | None"]]


def public_address(plan: Plan) -> AbstractAsyncContextManager[PublicAddress | None]:
    """As the product's own connection has it."""
    return outside().public(plan.traffic.api_connection)


def nobody(_: Plan) -> AbstractAsyncContextManager[PublicAddress | None]:
    """For who may not wait for Airflow's connections: the way back goes by time where it has to wait."""
    return nullcontext()


async def go_back(
    router: Router,
    plan: Plan,
    token: FencingToken,
    reason: str,
    version: str,
    *,
    known: Route | None = None,
    finalised_too: bool = True,
    address: Address = public_address,
) -> tuple[Route, bool]:
    """Traffic to the stable colour: at once, or with both for a moment where whatever lies before the router drops a
    colour at once and lets the other in only after a while. Then clients would meet nobody for so long, which is worse
    than a version of which some answers are bad. It ends when the public address answers from the stable colour, and
    by time at the latest.

    Raises `promotion.Asleep`, `FencedOut` and `KubeError`.

    :param version: what the stable colour answers
    :param known: the route as it was read before, see `move`
    """
    decide = partial(
        promotion.rejoin, token=token, reason=reason, finalised_too=finalised_too, slow=partial(_slow, plan)
    )
    route, changed = await move(router, decide, known=known)
    if route.colour == token.stable:
        return route, changed
    patience = max(LEAST_REJOIN_SECONDS, REJOIN_TIMES * _entry_seconds(plan, route))
    log.warning("%s: both serve until %s is let in, for %g s at most", route, token.stable, patience)
    await _until_let_in(router, plan, token, version, patience, address)
    narrow = partial(promotion.abort, token=token, reason=reason, finalised_too=finalised_too)
    route, narrowed = await move(router, narrow)
    return route, changed or narrowed


def _slow(plan: Plan, route: Route) -> bool:
    return _entry_seconds(plan, route) > (SLOW_ENTRY_SECONDS if plan.traffic.entry_seconds is None else 0.0)


def _entry_seconds(plan: Plan, route: Route) -> float:
    """As the plan says or the cutover saw it; 0 when nobody knows, as for a Service that clients reach themselves."""
    said = plan.traffic.entry_seconds
    return said if said is not None else route.entry_seconds or 0.0


class _Done(Exception):
    """Somebody else has moved traffic meanwhile."""


async def _until_let_in(
    router: Router, plan: Plan, token: FencingToken, version: str, patience: float, address: Address
) -> None:
    """Never raises: whatever goes wrong here, traffic goes back when the time is over."""

    async def meanwhile() -> None:
        if token.preview not in (await router.read()).serving:
            raise _Done

    async def look() -> None:
        async with address(plan) as public:
            wanted = plan.said_by(token.stable, version)
            if public is None or not wanted:
                raise NotReady("nobody may ask the public address, or its answers do not tell who gave them")
            await Reach(plan, public, wanted, meanwhile, tolerant=True).until(AMONG_OTHERS, patience)

    begun = clock.monotonic()
    try:
        async with asyncio.timeout(patience):
            await look()
    except _Done:
        return
    except Exception as error:
        log.warning("traffic goes back by time: %s", error or "no answer")
        await asyncio.sleep(max(0.0, patience - (clock.monotonic() - begun)))
