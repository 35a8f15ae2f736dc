"""The bench of many watches: what it watches is a service that can be judged, and it watches to the end."""

from __future__ import annotations

import pytest

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.telemetry.reader import reader_of
from sandbox import bench_load
from sandbox.load.cluster import Scale, page

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_a_page_has_its_size_and_tells_everything_that_is_asked_of_requests(size):
    text = page(size).decode()
    assert size <= len(text) < size + 2_000
    counters = reader_of(PLAN).read(text, 1.0)
    assert counters.requests > 0
    assert not {"error_rate", "p50_seconds", "p99_seconds"} & counters.lacking.keys()


@pytest.mark.parametrize(("found", "rated", "wanted"), [
    ((1.0, 1.0, 0.01), True, True), ((0.9, 1.0, 0.01), True, False), ((1.0, 0.9, 0.01), True, False),
    ((0.1, 0.1, 0.01), False, True), ((1.0, 1.0, 0.06), False, False),
])  # fmt: skip
def test_a_load_is_borne_when_its_rate_is_kept_and_nobody_waits_for_long(found, rated, wanted):
    looks, probes, hold = found
    load = bench_load.Load("some", Scale(1, 1, 1), rated)
    assert bench_load.met(load, {"pod_looks": looks, "probes": probes, "longest_hold_seconds": hold}) is wanted
