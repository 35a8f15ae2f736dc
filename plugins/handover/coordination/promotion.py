"""How traffic may move: decisions on a route as it was read. Pure: a route in, the route that it is to become out.

The route itself records how far the cutover is, beside who serves, and every change is a compare and swap. So a cutover
that was killed half-way is resumed from the route alone, whoever comes second loses and looks again, and a zombie can
never undo an abort: going forward is refused for a generation that was aborted, or that is over.

Every function gives None when that is done already, and raises `FencedOut` when this deployment may not move traffic
any more, and `Refused` when traffic is not where it should be. ``at``: seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from handover.coordination.lock import FencedOut
from handover.ports.router import Route, Stage, both, only

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken

NOTHING = "nothing was changed"


class Refused(Exception):
    """Traffic is not where this step expects it; nothing was changed."""


class Asleep(Refused):
    """The stable colour has to be woken before traffic goes back to it."""


def claim(route: Route, token: FencingToken) -> Route | None:
    """Stable alone, and this deployment's from now on: before it changes the colour that it deploys onto. Whoever still
    moves traffic back to that colour for the deployment before (its old version is there) comes too late then.
    """
    _may_go_forward(route, token)
    if _is_ours(route, token):
        return None
    if token.preview in route.serving:
        raise Refused(f"{route}: a release is never deployed onto the colour that serves; {NOTHING}")
    if route.colour != token.stable:
        raise Refused(f"{route}; it should be {token.stable} alone before a deployment; {NOTHING}")
    if route.stage is Stage.ABORTED and route.stable == token.preview:
        advice = "finish that with `python -m handover back`, or remove the annotation handover/stage"
        raise Refused(f"{route}; it is about to go back to {token.preview}: {advice}; {NOTHING}")
    return _moved(route, token, only(token.stable), Stage.STABLE, "deploying")


def overlap(route: Route, token: FencingToken, at: float) -> Route | None:
    """Stable to both: the preview colour joins, the stable one goes on serving."""
    _may_go_forward(route, token)
    if _is_ours(route, token) and route.stage is not Stage.STABLE:
        return None
    if route.colour != token.stable:
        raise Refused(f"{route}; it should be {token.stable} alone before the cutover; {NOTHING}")
    return _moved(route, token, both(token.stable, token.preview), Stage.OVERLAP, "cutover", exposed_at=at)


def promote(route: Route, token: FencingToken, entry_seconds: float | None = None) -> Route | None:
    """Both to preview: the stable colour gets no new connections.

    :param entry_seconds: how long the public address took to let the preview colour in
    """
    _may_go_forward(route, token)
    if not _is_ours(route, token) or route.stage is Stage.STABLE:
        raise Refused(f"{route}; it should be both colours by now; {NOTHING}")
    if route.stage is not Stage.OVERLAP:
        return None
    promoted = _moved(route, token, only(token.preview), Stage.PROMOTED, "promoted")
    return replace(promoted, entry_seconds=entry_seconds)


def restore(route: Route, token: FencingToken, reason: str) -> Route | None:
    """Both to stable, when the cutover failed before the promotion. It may be tried again later."""
    if not _is_ours(route, token) or route.stage in (Stage.STABLE, Stage.ABORTED):
        return None
    if route.stage is not Stage.OVERLAP:
        raise Refused(f"{route}; it was promoted already; {NOTHING}")
    return _moved(route, token, only(token.stable), Stage.STABLE, reason)


def retire(route: Route, token: FencingToken) -> Route | None:
    """The stable colour is about to be scaled down: from here on it has to be woken before it serves again."""
    _may_go_forward(route, token)
    if _is_ours(route, token) and route.stage in (Stage.RETIRING, Stage.FINALISED):
        return None
    if not _is_ours(route, token) or route.stage is not Stage.PROMOTED:
        raise Refused(f"{route}; {token.stable} is retired only when {token.preview} was promoted; {NOTHING}")
    return _moved(route, token, only(token.preview), Stage.RETIRING, "deployed")


def finalise(route: Route, token: FencingToken) -> Route | None:
    """The deployment ended well: the watch that could abort it is over."""
    _may_go_forward(route, token)
    if _is_ours(route, token) and route.stage is Stage.FINALISED:
        return None
    if not _is_ours(route, token) or route.stage not in (Stage.PROMOTED, Stage.RETIRING):
        raise Refused(f"{route}; it should be {token.preview} alone; {NOTHING}")
    return _moved(route, token, only(token.preview), Stage.FINALISED, "deployed")


def abort(route: Route, token: FencingToken, reason: str, *, finalised_too: bool = True) -> Route | None:
    """To the stable colour in one change, wherever traffic is: an overlap would keep a bad version serving longer.

    Before the cutover it moves nothing, but leaves a note that keeps this generation from ever going forward. Raises
    `Asleep` when the stable colour may be scaled down at any moment: then `hold`, wake it, and abort again.

    :param finalised_too: also after the deployment ended well (a rollback may, a watch that should be over may not)
    """
    if route.stage is Stage.ABORTED and _is_of(route, token) and route.colour == token.stable:
        return None
    _may_abort(route, token, finalised_too)
    if route.stage in (Stage.RETIRING, Stage.FINALISED) and route.colour != token.stable:
        raise Asleep(f"{route}; {token.stable} is scaled down; {NOTHING}")
    return _moved(route, token, only(token.stable), Stage.ABORTED, reason)


def rejoin(
    route: Route, token: FencingToken, reason: str, slow: Callable[[Route], bool], *, finalised_too: bool = True
) -> Route | None:
    """As `abort`, but a stable colour that serves nobody joins the preview one first where what lies before the router
    is ``slow`` to let a colour in and quick to drop one: else nobody would serve for so long. Whoever finds both, or
    has made them both, calls `abort` once the public address answers from the stable colour.

    Where the stable colour serves still, as during the overlap of the cutover, traffic goes back at once.
    """
    wanted = abort(route, token, reason, finalised_too=finalised_too)
    if wanted is None or not slow(route):
        return wanted
    if token.stable not in route.serving:
        return replace(wanted, weights=both(token.stable, token.preview))
    waits = route.stage is Stage.ABORTED and _is_of(route, token) and token.preview in route.serving
    return None if waits else wanted


def hold(route: Route, token: FencingToken, reason: str) -> Route | None:
    """Aborted, while traffic stays where it is until the stable colour is awake: nobody scales that down any more."""
    if route.stage is Stage.ABORTED and _is_of(route, token):
        return None
    _may_abort(route, token, finalised_too=True)
    return _moved(route, token, dict(route.weights), Stage.ABORTED, reason)


def show(route: Route, token: FencingToken, colour: str) -> Route | None:
    """Of the preview's own address: which colour it shows."""
    if route.generation > token.generation:
        raise FencedOut(f"generation {token.generation} is over: {route}; {NOTHING}")
    if _is_ours(route, token) and route.colour == colour:
        return None
    return _moved(route, token, only(colour), None, "preview")


def _is_ours(route: Route, token: FencingToken) -> bool:
    return route.generation == token.generation


def _is_of(route: Route, token: FencingToken) -> bool:
    """Of this deployment, by whichever generation."""
    return route.deployment == token.deployment


def _may_abort(route: Route, token: FencingToken, finalised_too: bool) -> None:
    if route.generation > token.generation:
        raise FencedOut(f"generation {token.generation} is over: {route}; {NOTHING}")
    if _is_ours(route, token) and route.stage is Stage.FINALISED and not finalised_too:
        raise FencedOut(f"{route}; this deployment has ended; {NOTHING}")


def _may_go_forward(route: Route, token: FencingToken) -> None:
    """What every step forward has to respect: newer generations, an abort, and a person's ``kubectl patch``."""
    if route.generation > token.generation:
        raise FencedOut(f"generation {token.generation} is over: {route}; {NOTHING}")
    if route.stage is Stage.ABORTED and (_is_ours(route, token) or _is_of(route, token)):
        raise FencedOut(f"{route}; a deployment that was aborted never goes forward again; {NOTHING}")
    if route.generation < token.generation or route.stage is None:
        return
    expected = {
        Stage.STABLE: frozenset({token.stable}), Stage.OVERLAP: frozenset({token.stable, token.preview}),
    }.get(route.stage, frozenset({token.preview}))  # fmt: skip
    if route.serving != expected:
        raise FencedOut(f"{route}; somebody else has moved traffic since; {NOTHING}")


def _moved(
    route: Route, token: FencingToken, weights: dict[str, int], stage: Stage | None, reason: str,
    exposed_at: float | None = None,
) -> Route:  # fmt: skip
    """``exposed_at``: of an overlap that begins; what is known already of this deployment stays."""
    known, entry = (route.exposed_at, route.entry_seconds) if _is_of(route, token) else (None, None)
    return replace(
        route, weights=weights, generation=token.generation, stage=stage, deployment=token.deployment,
        stable=token.stable, preview=token.preview, reason=reason, exposed_at=known or exposed_at, entry_seconds=entry,
    )  # fmt: skip
