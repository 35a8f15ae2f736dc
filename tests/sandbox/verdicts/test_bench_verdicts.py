"""Simulated releases: each can be made again, faults do what they say, and the judges are told the same."""

from __future__ import annotations

import json
import math
from io import StringIO
from itertools import pairwise
from random import Random

import pytest
from rich.console import Console

from sandbox import bench_verdicts
from sandbox.bench_verdicts import GOOD, JUDGES, OURS, Judged, figures, judged
from sandbox.verdicts import rivals
from sandbox.verdicts.chance import binomial, poisson, spread
from sandbox.verdicts.minutes import ERRORS, HITS, LAG, NOTHING, P99, SOURCES, minutes
from sandbox.verdicts.releases import TRAFFIC, release
from sandbox.verdicts.series import baseline, series
from sandbox.verdicts.verdict import Said, harmed, shows

WATCH = 7500.0
PLAN = bench_verdicts._plan()


def found_bad(fault: str, traffic: float, seed: int = 5):
    """The first such release, and what it does."""
    for number in range(1, 600, 2):
        one = release(seed, number, WATCH)
        if one.fault.what == fault and one.traffic == traffic:
            return one, series(one, WATCH)
    raise AssertionError


# --- what is drawn


@pytest.mark.parametrize("mean", [0.0, 0.3, 5.0, 100.0, 5e4])
def test_poisson_has_its_mean(mean):
    draw = Random(1)
    drawn = [poisson(draw, mean) for _ in range(2000)]
    assert sum(drawn) / 2000 == pytest.approx(mean, abs=4 * math.sqrt(mean / 2000) + 1e-9)


@pytest.mark.parametrize(("number", "share"), [(0, 0.5), (10, 0.0), (10, 1.0), (15, 0.3), (1000, 0.002), (5000, 0.7)])
def test_binomial_has_its_mean_and_its_bounds(number, share):
    draw = Random(1)
    drawn = [binomial(draw, number, share) for _ in range(2000)]
    assert all(0 <= one <= number for one in drawn)
    spread_of_the_mean = math.sqrt(number * share * (1 - share) / 2000)
    assert sum(drawn) / 2000 == pytest.approx(number * share, abs=4 * spread_of_the_mean + 1e-9)


def test_spread_loses_nobody():
    draw = Random(1)
    for number in (0, 1, 17, 100_000):
        assert sum(spread(draw, number, (0.2, 0.0, 0.5, 0.3))) == number


def test_a_release_can_be_made_again_and_another_seed_makes_another():
    assert release(1, 7, WATCH) == release(1, 7, WATCH)
    assert series(release(1, 7, WATCH), WATCH) == series(release(1, 7, WATCH), WATCH)
    assert release(1, 7, WATCH) != release(2, 7, WATCH)


def test_half_are_bad_and_every_fault_meets_every_traffic():
    drawn = [release(1, number, WATCH) for number in range(2 * 19 * len(TRAFFIC))]
    assert sum(one.fault is None for one in drawn) == len(drawn) / 2
    cells = {(one.fault.what, one.traffic) for one in drawn if one.fault}
    assert len(cells) == 19 * len(TRAFFIC)


def test_steps_follow_each_other_to_the_end():
    for number in range(4):
        steps = series(release(3, number, WATCH), WATCH)
        assert (steps[0].begin, steps[-1].end) == (0, WATCH)
        assert all(one.end == other.begin for one, other in pairwise(steps))


def test_a_fault_harms_nobody_before_it_is_there_and_as_many_as_it_says_then():
    one, steps = found_bad("20.0% errors", 10.0)
    assert all(step.harmed == 0 for step in steps if step.end <= one.fault.at)
    after = [step for step in steps if step.begin >= one.fault.at]
    asked = sum(pod.requests for step in after for pod in step.pods)
    assert sum(step.harmed for step in after) == pytest.approx(0.2 * asked, rel=0.05)
    assert harmed(steps, Said(None)) == pytest.approx(sum(step.harmed for step in steps))
    assert harmed(steps, Said(one.fault.at)) < 0.05 * harmed(steps, Said(None))


def test_a_fault_that_hardly_anybody_met_broke_no_limit():
    one, steps = found_bad("0.2% errors", 0.02)
    if not one.fault.health:
        assert not shows(one, steps, PLAN)
    one, steps = found_bad("0.2% errors", 5000.0)
    assert shows(one, steps, PLAN)


# --- who judges


def test_minutes_tell_what_there_is_and_nothing_of_a_source_that_is_silent():
    one, steps = found_bad("a source dies", 0.02)
    told = minutes(steps)
    assert len(told) == WATCH / 60
    assert any(minute[ERRORS] == NOTHING for minute in told) or one.fault.size == 0
    before = minutes(baseline(one))
    assert len(before) == 60
    assert all(value is not None for minute in before for value in minute.values())


def minute(**values):
    calm = dict.fromkeys(SOURCES, 0.0) | {HITS: 0.95, "p50": 0.03, "p95": 0.08, P99: 0.2, "connections": 50.0}
    return calm | values


def test_argos_rule():
    stable = [minute()] * 60
    calm = [minute()] * 10

    def argo(told, limit=0):
        return rivals.argo(told, stable, PLAN, limit).at

    assert argo(calm) is None
    assert argo([*calm, minute(errors=0.5)]) == 11 * 60
    assert argo([*calm, *[minute(errors=0.5)] * 3], 3) is None
    assert argo([*calm, *[minute(errors=0.5)] * 4], 3) == 14 * 60
    assert argo([minute(errors=0.5), *calm]) is None, "the first minute is left out"
    assert argo([*calm, minute(errors=None)]) == 11 * 60 + 40
    assert argo([*calm, minute(errors=NOTHING)]) is None


def test_kayentas_rule():
    draw = Random(1)
    stable = [minute(**{LAG: draw.gauss(1, 0.1), P99: draw.gauss(0.2, 0.01)}) for _ in range(60)]

    def kayenta(lag: float, p99: float):
        told = [minute(**{LAG: draw.gauss(lag, 0.1), P99: draw.gauss(p99, 0.01)}) for _ in range(60)]
        return rivals.kayenta(told, stable).at

    assert kayenta(1, 0.2) is None
    assert kayenta(1, 0.4) == 600, "critical"
    assert kayenta(2, 0.2) == 3600, "one of eleven is told at the end"


@pytest.mark.parametrize("number", [0, 9, 23])
def test_all_judge_the_same_release(number):
    one = judged(4, number)
    assert set(one.said) == set(JUDGES)
    assert (one.fault == GOOD) == (number % 2 == 0)
    assert one == judged(4, number)


def test_figures():
    def made(fault: str, **said: float | None) -> Judged:
        verdicts = {who: Said(said.get(who)) for who in JUDGES}
        return Judged(0, 1.0, fault, fault != GOOD, 10.0, 10.0, verdicts, dict.fromkeys(JUDGES, 2.0))

    found = [
        made("x", ours=11.0),
        made("x", ours=13.0),
        made("x"),
        made("x", ours=5.0),
        made(GOOD),
        made(GOOD, ours=9.0),
    ]
    told = figures(found, OURS)
    assert told["recall"] == pytest.approx(2 / 3, abs=1e-5)
    assert told["precision"] == 0.5, "one good release, and one whose fault was not there yet"
    assert (told["false_alarms"], told["median_seconds"], told["worst_seconds"]) == (0.5, 2.0, 3.0)
    assert told["harmed_requests"] == 6


def test_a_small_bench_writes_what_it_promises(tmp_path):
    out = StringIO()
    bench_verdicts.bench(tmp_path, Console(file=out, width=200), releases=14, processes=1, seed=4)
    told = json.loads((tmp_path / "bench-verdicts.json").read_text())
    for who in JUDGES:
        assert {"recall", "precision", "median_seconds", "worst_seconds", "harmed_requests"} <= told[who].keys()
    assert {(row["fault"], row["traffic"]) for row in told["rows"]} == {
        (fault, traffic) for traffic in TRAFFIC for fault in (GOOD, "0.2% errors")
    }
    assert "Argo, failureLimit 3" in out.getvalue()
