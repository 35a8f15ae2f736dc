"""Whether pods still serve anybody: guests keep a colour busy; the kubelet, our own looks and health checks do not."""

from __future__ import annotations

import math

import pytest

from handover.telemetry.counters import Counters
from handover.workload.quiet import Look, served

MIXED = "no label tells"


def look(**counted: float | Counters) -> Look:
    return Look({pod: one if isinstance(one, Counters) else Counters(0, one) for pod, one in counted.items()}, {})


@pytest.mark.parametrize(
    ("before", "after", "requests"),
    [
        (look(a=5), look(a=5), 0),
        (look(a=5, b=1), look(a=7, b=1), 2),
        (look(a=5), look(b=3), 3),
        (look(a=5), look(a=1), 1),
        (look(), look(), 0),
    ],
)
def test_requests_between_two_looks(before, after, requests):
    assert served(before, after, 3.0, {}) == requests


def test_who_hung_up_has_asked():
    assert served(look(a=Counters(0, 5, hung_up=1)), look(a=Counters(3, 5, hung_up=3)), 3.0, {}) == 2


def test_another_counter_than_before_counts_from_its_beginning():
    assert served(look(a=Counters(0, 5, metric="x")), look(a=Counters(3, 7, metric="y")), 3.0, {}) == 7


@pytest.mark.parametrize(("seconds", "counted", "guests"), [
    (3.0, 1, 0), (3.0, 2, 0), (3.0, 5, 3), (30.0, 8, 0), (30.0, 100, 92),
])  # fmt: skip
def test_what_the_kubelet_and_we_ask_is_nobody(seconds, counted, guests):
    """Every 5 s, and one look of ours."""
    before, after = look(a=Counters(0, 100, mixed=MIXED)), look(a=Counters(seconds, 100 + counted, mixed=MIXED))
    assert served(before, after, seconds, {"a": 0.2}) == guests


def test_where_labels_tell_the_kubelet_every_request_is_a_guests():
    assert served(look(a=1), look(a=2), 3.0, {"a": math.inf}) == 1


def test_a_pod_that_does_not_tell_is_a_problem():
    assert Look({}, {"a": "broken"}).problem == "a does not tell its requests: broken"
    assert look(a=1).problem == ""
