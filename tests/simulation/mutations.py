"""Ten ways to break the protocol. Each is found by the schedules, or they would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from handover.adapters.service_router import ServiceRouter
from handover.coordination import lock, promotion, state
from handover.models.deployment import DeploymentState
from handover.ports.router import Route, Stage
from handover.traffic import abort, operators
from handover.workload import scale_down
from tests.simulation.invariants import Violation
from tests.simulation.scenario import Player, numbered

Mutation = Callable[[], Any]


def no_compare_and_swap_of_the_route() -> Any:
    plain = ServiceRouter._patch

    def anyhow(self: ServiceRouter, route: Route) -> Any:
        found = plain(self, route)
        del found["metadata"]["resourceVersion"]
        return found

    return patch.object(ServiceRouter, "_patch", anyhow)


def no_compare_and_swap_of_a_deployment() -> Any:
    plain = scale_down.ScaleDown._scaled_down

    async def anyhow(self: Any, run: Any, kube: Any, router: Any, colour: str, reason: str) -> Any:
        return await plain(self, run, _Forgetful(kube), router, colour, reason)

    return patch.object(scale_down.ScaleDown, "_scaled_down", anyhow)


class _Forgetful:
    """A client that changes Deployments whatever they are by now."""

    def __init__(self, kube: Any) -> None:
        self._kube = kube

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def merge(self, resource: str, name: str, body: Any) -> Any:
        body["metadata"].pop("resourceVersion", None)
        return await self._kube.merge(resource, name, body)


def a_colour_goes_without_a_note_on_the_route() -> Any:
    async def claim(self: Any, router: Any, run: Any) -> Route:
        return await router.read()

    return patch.object(scale_down.RetireColour, "claim", claim)


def scale_down_before_the_look() -> Any:
    async def at_once(self: Any, run: Any, kube: Any, router: Any, colour: str, reason: str) -> Any:
        await kube.merge(scale_down.DEPLOYMENTS, self.plan.cluster.deployment_of(colour), {"spec": {"replicas": 0}})
        return scale_down.passed("scaled_down", reason)

    return patch.object(scale_down.ScaleDown, "_scaled_down", at_once)


def an_abort_before_the_cutover_leaves_no_note() -> Any:
    plain = promotion.abort

    def quiet(route: Route, token: Any, reason: str, **how: Any) -> Route | None:
        return None if route.colour == token.stable else plain(route, token, reason, **how)

    return patch.object(promotion, "abort", quiet)


def who_was_aborted_may_go_forward() -> Any:
    def anybody(route: Route, token: Any) -> None:
        if route.generation > token.generation:
            raise lock.FencedOut

    def again(route: Route, token: Any, at: float) -> Route | None:
        if route.stage is Stage.ABORTED:
            route = promotion.replace(route, stage=Stage.STABLE)
        return plain(route, token, at)

    plain = promotion.overlap
    return _all(patch.object(promotion, "_may_go_forward", anybody), patch.object(promotion, "overlap", again))


def a_sleeping_colour_is_not_woken() -> Any:
    async def sleeps_on(*_: Any) -> None:
        return None

    return _all(patch.object(abort, "wake", sleeps_on), patch.object(abort.Position, "can_move", True))


def a_rollback_takes_any_lock() -> Any:
    plain = lock.acquire

    async def greedy(kube: Any, name: str, holder: str, reason: str, **how: Any) -> int:
        return await plain(kube, name, holder, reason, take_over=how.get("take_over", False))

    return patch.object(lock, "acquire", greedy)


def an_end_can_be_undone() -> Any:
    return patch.object(DeploymentState, "over", property(lambda self: False))


def the_record_says_switched_before_it_is() -> Any:
    plain = operators.SwitchTraffic.act

    async def early(self: Any, run: Any) -> Any:
        async with run.kube() as kube:
            await run.change(kube, lambda old: old.model_copy(update={"switched_at": old.switched_at or 1.0}))
        return await plain(self, run)

    return patch.object(operators.SwitchTraffic, "act", early)


def a_run_that_was_rolled_back_may_open_again() -> Any:
    async def unknown(*_: Any) -> None:
        return None

    return patch.object(state, "ended", unknown)


def a_state_that_was_given_up_may_begin() -> Any:
    async def nothing(*_: Any) -> None:
        return None

    return patch.object(state, "give_up", nothing)


def found_after(stage: Player, name: str, within: int) -> tuple[int, Violation | None]:
    """How many schedules it took to find this mutation, and what it broke; None when none of so many did."""
    with MUTATIONS[name]():
        for number in range(within):
            schedule, cast, to_the_end = numbered(stage, number)
            if violations := stage.play(schedule, cast, to_the_end=to_the_end).violations:
                return number, violations[0]
    return within, None


@contextmanager
def _all(*patches: Any) -> Iterator[None]:
    with patches[0], patches[1]:
        yield


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__.replace("_", " "): mutation
    for mutation in (
        no_compare_and_swap_of_the_route, no_compare_and_swap_of_a_deployment,
        a_colour_goes_without_a_note_on_the_route, scale_down_before_the_look,
        an_abort_before_the_cutover_leaves_no_note, who_was_aborted_may_go_forward, a_sleeping_colour_is_not_woken,
        a_rollback_takes_any_lock, an_end_can_be_undone, the_record_says_switched_before_it_is,
        a_run_that_was_rolled_back_may_open_again, a_state_that_was_given_up_may_begin,
    )
}  # fmt: skip
