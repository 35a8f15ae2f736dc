"""The switch as a table: every state of a Service, every intent, older, same and newer generations."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial
from pathlib import Path

import pytest

from handover.coordination.lock import FencedOut
from handover.models.deployment import FencingToken
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.traffic import switch
from handover.traffic.switch import PREFIX, Refused, Traffic

CLUSTER = load_plan(Path(INCLUDE) / "plans" / "pms.yaml").cluster
TOKEN = FencingToken(deployment="run", generation=5, stable="blue", preview="green")
OLD, BOTH, NEW, BACK, SETTLED = Traffic
COLOUR = {OLD: "blue", BOTH: None, NEW: "green", BACK: "blue", SETTLED: "green"}
INTENTS = {
    "overlap": switch.overlap, "narrow": switch.narrow, "settle": switch.settle,
    "restore": partial(switch.restore, reason="why"), "back": partial(switch.back, reason="why"),
    "watch": partial(switch.back, reason="why", settled_too=False),
}  # fmt: skip


def service(traffic: Traffic | None, generation: int, colour: str | None, deployment: str = "run") -> dict:
    notes = {"generation": str(generation), "traffic": traffic, "deployment": deployment, "reason": "before",
             "old-colour": "blue", "new-colour": "green"}  # fmt: skip
    selector = {"app": "pms", "tier": "web"} | ({"version": colour} if colour else {})
    metadata = {"name": "pms-api", "resourceVersion": "77"}
    if traffic:
        metadata["annotations"] = {"other": "stays"} | {PREFIX + key: value for key, value in notes.items()}
    return {"metadata": metadata, "spec": {"selector": selector}}


def outcome(intent: str, given: dict) -> object:
    """``done``, ``fenced``, ``refused``, or (colour, traffic) of the patch, which is checked for what all share."""
    try:
        patch = INTENTS[intent](given, CLUSTER, TOKEN)
    except FencedOut:
        return "fenced"
    except Refused:
        return "refused"
    if patch is None:
        return "done"
    assert patch["metadata"]["resourceVersion"] == "77"
    assert patch["spec"]["selector"]["app"] == "pms"
    notes = patch["metadata"]["annotations"]
    assert (notes[PREFIX + "generation"], notes[PREFIX + "deployment"]) == ("5", "run")
    return patch["spec"]["selector"]["version"], notes[PREFIX + "traffic"]


SAME = {  # intent: outcome for OLD, BOTH, NEW, BACK, SETTLED of the same generation
    "overlap": [(None, BOTH), "done", "done", "fenced", "done"],
    "narrow": ["refused", ("green", NEW), "done", "fenced", "done"],
    "settle": ["refused", "refused", ("green", SETTLED), "fenced", "done"],
    "restore": ["done", ("blue", OLD), "refused", "done", "refused"],
    "back": [("blue", BACK), ("blue", BACK), ("blue", BACK), "done", ("blue", BACK)],
    "watch": [("blue", BACK), ("blue", BACK), ("blue", BACK), "done", "fenced"],
}


@pytest.mark.parametrize(("intent", "traffic"), itertools.product(SAME, Traffic))
def test_same_generation(intent, traffic):
    expected = SAME[intent][list(Traffic).index(traffic)]
    assert outcome(intent, service(traffic, 5, COLOUR[traffic])) == expected


@pytest.mark.parametrize(("intent", "traffic"), itertools.product(SAME, Traffic))
def test_a_newer_generation_fences_everything_out(intent, traffic):
    newer = service(traffic, 6, COLOUR[traffic], deployment="newer")
    assert outcome(intent, newer) == ("done" if intent == "restore" else "fenced")


@pytest.mark.parametrize("traffic", [*Traffic, None])
@pytest.mark.parametrize("colour", ["blue", "green", None])
@pytest.mark.parametrize("intent", SAME)
def test_an_older_generation_counts_only_by_where_its_traffic_is(intent, traffic, colour):
    expected = {
        "overlap": (None, BOTH) if colour == "blue" else "refused",
        "narrow": "refused", "settle": "refused", "restore": "done", "back": ("blue", BACK), "watch": ("blue", BACK),
    }  # fmt: skip
    assert outcome(intent, service(traffic, 4, colour, deployment="older")) == expected[intent]


@pytest.mark.parametrize("intent", ["overlap", "narrow", "settle"])
@pytest.mark.parametrize(("traffic", "colour"), itertools.product(Traffic, ["blue", "green", None, "purple"]))
def test_nothing_goes_forward_after_somebody_changed_the_selector_by_hand(intent, traffic, colour):
    if colour != COLOUR[traffic]:
        assert outcome(intent, service(traffic, 5, colour)) == "fenced"


@pytest.mark.parametrize(("traffic", "colour"), itertools.product(Traffic, ["blue", "green", None, "purple"]))
def test_back_always_ends_on_the_old_colour(traffic, colour):
    given = service(traffic, 5, colour)
    result = outcome("back", given)
    assert result == ("blue", BACK) or (result == "done" and (traffic, colour) == (BACK, "blue"))


def test_a_rollback_that_is_retried_with_its_own_generation_finds_itself_done():
    given = service(BACK, 4, "blue")
    assert switch.back(given, CLUSTER, TOKEN, "again") is None
    assert switch.back(service(BACK, 6, "blue"), CLUSTER, TOKEN, "again") is None


def apply(given: dict, patch: dict | None) -> dict:
    """A merge patch, as the API server does it."""
    if patch is None:
        return given
    selector = given["spec"]["selector"] | patch["spec"]["selector"]
    notes = given["metadata"].get("annotations", {}) | patch["metadata"]["annotations"]
    return {
        "metadata": given["metadata"] | {"annotations": notes},
        "spec": {"selector": {key: value for key, value in selector.items() if value is not None}},
    }


ORDERS = sorted(set(itertools.permutations(["overlap", "narrow", "back", "overlap", "narrow"])))


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order_back_is_final_and_traffic_always_has_a_colour(order):
    now, gone_back = service(SETTLED, 4, "blue", deployment="older"), False
    for intent in order:
        with contextlib.suppress(FencedOut, Refused):
            now = apply(now, INTENTS[intent](now, CLUSTER, TOKEN))
        gone_back = gone_back or intent == "back"
        seen = switch.read(now, CLUSTER)
        assert now["spec"]["selector"]["app"] == "pms"
        assert now["spec"]["selector"]["tier"] == "web"
        assert now["metadata"]["resourceVersion"] == "77"
        assert seen.colour == ("blue" if gone_back else COLOUR[seen.traffic] if seen.generation == 5 else "blue")
    assert switch.read(now, CLUSTER).traffic is BACK


def test_the_whole_way_forward():
    now = service(None, 0, "blue")
    for intent, colour in (("overlap", None), ("narrow", "green"), ("settle", "green")):
        now = apply(now, INTENTS[intent](now, CLUSTER, TOKEN))
        assert switch.read(now, CLUSTER).colour == colour
    assert now["metadata"]["annotations"][PREFIX + "traffic"] == "settled"


@pytest.mark.parametrize(("generation", "colour", "expected"), [
    (0, "blue", "patched"), (4, "green", "patched"), (5, "blue", "patched"), (5, "green", "done"),
    (6, "green", "fenced"),
])  # fmt: skip
def test_preview(generation, colour, expected):
    given = service(None, 0, colour)
    given["metadata"]["annotations"] = {PREFIX + "generation": str(generation)}
    try:
        patch = switch.preview(given, CLUSTER, TOKEN, "green")
    except FencedOut:
        assert expected == "fenced"
        return
    assert ("done" if patch is None else "patched") == expected
    if patch:
        assert patch["spec"]["selector"] == {"app": "pms", "version": "green"}
        assert PREFIX + "traffic" not in patch["metadata"]["annotations"]


def test_notes_that_nobody_understands_are_no_notes():
    given = service(NEW, 5, "blue")
    given["metadata"]["annotations"] |= {PREFIX + "traffic": "sideways", PREFIX + "generation": "x"}
    seen = switch.read(given, CLUSTER)
    assert (seen.traffic, seen.generation) == (None, 0)
    assert outcome("overlap", given) == (None, BOTH)


def test_a_reason_of_any_length_fits_into_an_annotation():
    patch = switch.back(service(NEW, 5, "green"), CLUSTER, TOKEN, "x" * 10_000)
    assert len(patch["metadata"]["annotations"][PREFIX + "reason"]) == switch.MAX_REASON
