"""Promotion as a table: every state of a route, every intent, older, same and newer generations."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial

import pytest

from handover.coordination import promotion
from handover.coordination.lock import FencedOut
from handover.coordination.promotion import Asleep, Refused
from handover.models.deployment import FencingToken
from handover.ports.router import Route, Stage, both, only

TOKEN = FencingToken(deployment="run", generation=5, stable="blue", preview="green")
STABLE, OVERLAP, PROMOTED, ABORTED, RETIRING, FINALISED = Stage
BLUE, GREEN, BOTH, PURPLE = only("blue"), only("green"), both("blue", "green"), only("purple")
WEIGHTS = {STABLE: BLUE, OVERLAP: BOTH, PROMOTED: GREEN, ABORTED: BLUE, FINALISED: GREEN, RETIRING: GREEN}
INTENTS = {
    "overlap": partial(promotion.overlap, at=100.0), "promote": promotion.promote, "finalise": promotion.finalise,
    "retire": promotion.retire, "restore": partial(promotion.restore, reason="why"),
    "abort": partial(promotion.abort, reason="why"), "hold": partial(promotion.hold, reason="why"),
    "watch": partial(promotion.abort, reason="why", finalised_too=False),
    "rejoin": partial(promotion.rejoin, reason="why", slow=lambda route: False),
    "slow": partial(promotion.rejoin, reason="why", slow=lambda route: True),
}  # fmt: skip
FORWARD = ("overlap", "promote", "finalise", "retire")


def route(stage: Stage | None, generation: int, weights: dict[str, int], deployment: str = "run") -> Route:
    return Route(
        "Service web", weights, generation, stage, deployment, "blue", "green", "before", exposed_at=7.0, revision="77"
    )


def outcome(intent: str, given: Route) -> object:
    """``done``, ``fenced``, ``refused``, ``asleep``, or (weights, stage) of the route that it is to become."""
    try:
        wanted = INTENTS[intent](given, TOKEN)
    except FencedOut:
        return "fenced"
    except Asleep:
        return "asleep"
    except Refused:
        return "refused"
    if wanted is None:
        return "done"
    assert (wanted.generation, wanted.deployment, wanted.revision) == (5, "run", "77")
    return wanted.weights, wanted.stage


SAME = {  # intent: outcome for each stage of the same generation
    "overlap": [(BOTH, OVERLAP), "done", "done", "fenced", "done", "done"],
    "promote": ["refused", (GREEN, PROMOTED), "done", "fenced", "done", "done"],
    "retire": ["refused", "refused", (GREEN, RETIRING), "fenced", "done", "done"],
    "finalise": ["refused", "refused", (GREEN, FINALISED), "fenced", (GREEN, FINALISED), "done"],
    "restore": ["done", (BLUE, STABLE), "refused", "done", "refused", "refused"],
    "abort": [(BLUE, ABORTED), (BLUE, ABORTED), (BLUE, ABORTED), "done", "asleep", "asleep"],
    "hold": [(BLUE, ABORTED), (BOTH, ABORTED), (GREEN, ABORTED), "done", (GREEN, ABORTED), (GREEN, ABORTED)],
    "watch": [(BLUE, ABORTED), (BLUE, ABORTED), (BLUE, ABORTED), "done", "asleep", "fenced"],
}


@pytest.mark.parametrize(("intent", "stage"), itertools.product(SAME, Stage))
def test_same_generation(intent, stage):
    assert outcome(intent, route(stage, 5, WEIGHTS[stage])) == SAME[intent][list(Stage).index(stage)]


@pytest.mark.parametrize(("intent", "stage"), itertools.product(SAME, Stage))
def test_a_newer_generation_fences_everything_out(intent, stage):
    newer = route(stage, 6, WEIGHTS[stage], deployment="newer")
    assert outcome(intent, newer) == ("done" if intent == "restore" else "fenced")


@pytest.mark.parametrize("stage", [*Stage, None])
@pytest.mark.parametrize("weights", [BLUE, GREEN, BOTH])
def test_an_older_generation_counts_only_by_where_its_traffic_is(stage, weights):
    given = route(stage, 4, weights, deployment="older")
    may_sleep = stage in (RETIRING, FINALISED) and weights != BLUE
    expected = {
        "overlap": (BOTH, OVERLAP) if weights == BLUE else "refused", "promote": "refused", "finalise": "refused",
        "retire": "refused", "restore": "done", "abort": "asleep" if may_sleep else (BLUE, ABORTED),
        "hold": (weights, ABORTED), "watch": "asleep" if may_sleep else (BLUE, ABORTED),
    }  # fmt: skip
    assert {intent: outcome(intent, given) for intent in expected} == expected


@pytest.mark.parametrize("intent", FORWARD)
@pytest.mark.parametrize(("stage", "weights"), itertools.product(Stage, [BLUE, GREEN, BOTH, PURPLE, {}]))
def test_nothing_goes_forward_after_somebody_moved_traffic_by_hand(intent, stage, weights):
    if weights != WEIGHTS[stage]:
        assert outcome(intent, route(stage, 5, weights)) == "fenced"


@pytest.mark.parametrize(("stage", "weights"), itertools.product(Stage, [BLUE, GREEN, BOTH, PURPLE, {}]))
def test_an_abort_always_ends_on_the_stable_colour_or_wakes_it_first(stage, weights):
    result = outcome("abort", route(stage, 5, weights))
    if result == "asleep":
        assert stage in (RETIRING, FINALISED) and weights != BLUE
    else:
        assert result == (BLUE, ABORTED) or (result == "done" and (stage, weights) == (ABORTED, BLUE))


@pytest.mark.parametrize(("stage", "weights"), itertools.product(Stage, [BLUE, GREEN, BOTH, PURPLE, {}]))
def test_where_nothing_is_slow_to_let_a_colour_in_rejoining_is_an_abort(stage, weights):
    given = route(stage, 5, weights)
    assert outcome("rejoin", given) == outcome("abort", given)


@pytest.mark.parametrize(("stage", "weights", "expected"), [
    (STABLE, BLUE, (BLUE, ABORTED)), (OVERLAP, BOTH, (BLUE, ABORTED)), (PROMOTED, GREEN, (BOTH, ABORTED)),
    (PROMOTED, PURPLE, (BOTH, ABORTED)), (ABORTED, GREEN, (BOTH, ABORTED)), (ABORTED, BOTH, "done"),
    (ABORTED, BLUE, "done"), (RETIRING, GREEN, "asleep"), (FINALISED, GREEN, "asleep"),
])  # fmt: skip
def test_where_something_is_slow_a_colour_that_serves_nobody_joins_first(stage, weights, expected):
    assert outcome("slow", route(stage, 5, weights)) == expected
    assert outcome("slow", route(stage, 6, weights, deployment="newer")) == "fenced"


@pytest.mark.parametrize(("stage", "weights"), itertools.product(Stage, [BLUE, GREEN, BOTH, PURPLE, {}]))
def test_whoever_rejoins_and_then_aborts_ends_on_the_stable_colour(stage, weights):
    now = given = route(stage, 5, weights)
    with contextlib.suppress(Asleep):
        now = INTENTS["slow"](given, TOKEN) or given
        assert TOKEN.stable in now.serving
        now = promotion.abort(now, TOKEN, "why") or now
        assert (now.weights, now.stage) == (BLUE, ABORTED)


def test_how_long_it_took_to_be_let_in_stays_known_and_is_of_that_deployment():
    promoted = promotion.promote(route(OVERLAP, 5, BOTH), TOKEN, 5.25)
    assert promoted.entry_seconds == 5.25
    assert promotion.finalise(promoted, TOKEN).entry_seconds == 5.25
    next_one = FencingToken(deployment="next", generation=6, stable="green", preview="blue")
    assert promotion.claim(promoted, next_one).entry_seconds is None


def test_an_abort_that_is_retried_with_the_generation_of_its_rollback_finds_itself_done():
    assert promotion.abort(route(ABORTED, 4, BLUE), TOKEN, "again") is None
    assert promotion.abort(route(ABORTED, 6, BLUE), TOKEN, "again") is None


def test_after_hold_and_waking_an_abort_moves_traffic():
    held = promotion.hold(route(RETIRING, 5, GREEN), TOKEN, "why")
    assert held is not None
    assert outcome("retire", held) == "fenced"
    assert outcome("abort", held) == (BLUE, ABORTED)


ORDERS = sorted(set(itertools.permutations(["overlap", "promote", "abort", "overlap", "promote"])))


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order_an_abort_is_final_and_somebody_always_serves(order):
    now, aborted = route(FINALISED, 4, BLUE, deployment="older"), False
    for intent in order:
        with contextlib.suppress(FencedOut, Refused):
            now = INTENTS[intent](now, TOKEN) or now
        aborted = aborted or intent == "abort"
        assert now.weights == (BLUE if aborted or now.generation == 4 else WEIGHTS[now.stage])
    assert now.stage is ABORTED


def test_the_whole_way_forward():
    now = route(None, 0, BLUE)
    for intent, weights in (("overlap", BOTH), ("promote", GREEN), ("retire", GREEN), ("finalise", GREEN)):
        now = INTENTS[intent](now, TOKEN)
        assert now.weights == weights
    assert now.stage is FINALISED


def test_when_clients_first_met_a_version_stays_known_and_is_of_that_version():
    now = promotion.overlap(route(FINALISED, 4, BLUE, deployment="older"), TOKEN, at=100.0)
    assert now.exposed_at == 100.0
    restored = promotion.restore(now, TOKEN, "why")
    assert promotion.overlap(restored, TOKEN, at=200.0).exposed_at == 100.0
    assert promotion.abort(promotion.promote(now, TOKEN), TOKEN, "why").exposed_at == 100.0
    assert promotion.abort(route(FINALISED, 4, BLUE, deployment="older"), TOKEN, "why").exposed_at is None


@pytest.mark.parametrize(("generation", "weights", "expected"), [
    (0, BLUE, "moved"), (4, GREEN, "moved"), (5, BLUE, "moved"), (5, GREEN, "done"), (6, GREEN, "fenced"),
])  # fmt: skip
def test_the_preview_shows_a_colour(generation, weights, expected):
    try:
        wanted = promotion.show(route(None, generation, weights), TOKEN, "green")
    except FencedOut:
        assert expected == "fenced"
        return
    assert ("done" if wanted is None else "moved") == expected
    if wanted:
        assert (wanted.weights, wanted.stage) == (GREEN, None)
