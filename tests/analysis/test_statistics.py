"""What answers prove: against exact sums, and against what is promised of false alarms."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from handover.analysis.statistics import (
    AT_ONCE,
    ODDS,
    SequentialTest,
    at_least_so_many,
    beyond,
    highest,
    slower_pairs,
    surely_above,
)

RATES = st.fractions(Fraction(1, 10_000), Fraction(9_999, 10_000), max_denominator=10_000)


def exact_tail(bad: int, total: int, rate: Fraction) -> float:
    """The binomial's tail, summed up without rounding."""
    good = 1 - rate
    terms = (math.comb(total, k) * rate**k * good ** (total - k) for k in range(bad, total + 1))
    return float(sum(terms, Fraction(0)))


@given(st.integers(0, 120), st.integers(0, 120), RATES)
def test_the_binomial_tail_is_exact(bad, good, rate):
    assert at_least_so_many(bad, bad + good, float(rate)) == pytest.approx(
        exact_tail(bad, bad + good, rate), rel=1e-9, abs=1e-290
    )


@pytest.mark.parametrize(("bad", "total", "rate"), [
    (1_050, 1_000_000, 0.001), (75_500, 75_000_000, 0.001), (150_000, 300_000, 0.499), (3, 75_000_000, 1e-8),
])  # fmt: skip
def test_the_tail_of_many_answers_agrees_with_an_exact_sum(bad, total, rate):
    logs = (
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        + k * math.log(rate) + (total - k) * math.log1p(-rate)
        for k in range(bad, min(total, bad + 20_000) + 1)
    )  # fmt: skip
    assert at_least_so_many(bad, total, rate) == pytest.approx(math.fsum(map(math.exp, logs)), rel=1e-5)


@pytest.mark.parametrize(("bad", "total", "rate", "wanted"), [
    (0, 0, 0.5, 1), (0, 10, 0.5, 1), (11, 10, 0.5, 0), (5, 10, 0, 0), (5, 10, 1, 1), (10, 10, 0.5, 1 / 1024),
])  # fmt: skip
def test_the_ends_of_the_tail(bad, total, rate, wanted):
    assert at_least_so_many(bad, total, rate) == pytest.approx(wanted)


@pytest.mark.parametrize(("z", "wanted"), [(0, 0.5), (1, 0.158655), (2, 0.0227501), (3, 0.00134990), (6, 9.8659e-10)])
def test_beyond(z, wanted):
    assert beyond(z) == pytest.approx(wanted, rel=1e-5)


@given(st.integers(0, 300), st.integers(1, 300), st.floats(1e-6, 0.1))
def test_the_highest_rate_is_where_so_few_are_as_unlikely_as_asked(bad, good, alpha):
    total, high = bad + good, highest(bad, bad + good, alpha)
    assert bad / total <= high <= 1

    def so_few(rate: float) -> float:
        return 1 - at_least_so_many(bad + 1, total, rate)

    assert so_few(min(1.0, high * 1.001)) <= alpha * 1.01 + 1e-12
    assert so_few(high * 0.999) >= alpha * 0.99 - 1e-12


def test_the_rule_of_three():
    assert highest(0, 1000, 0.05) == pytest.approx(3 / 1000, rel=0.01)
    assert highest(5, 5, 0.05) == 1


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.001, 0.9), st.floats(1e-6, 0.1))
def test_surely_above_is_what_the_tail_says(bad, good, limit, alpha):
    tail = exact_tail(bad, bad + good, Fraction(limit))
    assume(abs(tail - alpha) > 1e-9)
    above = bad > limit * (bad + good)
    assert surely_above(bad, bad + good, limit, alpha) == (above and tail < alpha)


# --- the sequential test

ALPHA = beyond(3)


def alarm(limit: float, outcomes: list[tuple[float, float, float]], at_least: float = 3) -> float | None:
    """When the test first says yes, if it does."""
    test = SequentialTest(limit, ALPHA)
    for at, bad, total in outcomes:
        test.add(at, bad, total)
        if test.above(at_least):
            return at
    return None


def test_nothing_is_above_anything_before_there_is_an_answer():
    test = SequentialTest(0.001, ALPHA)
    assert not test.above(1)
    test.add(0, 0, 0)
    assert not test.above(1)
    assert test.since() == (0, 0, 0)


@pytest.mark.parametrize("limit", [0.0001, 0.001, 0.01, 0.2, 0.5, 0.9])
def test_the_evidence_is_a_fair_bet_at_the_limit(limit):
    """Every step's expected factor is one, so that all looks together have one chance of a false alarm."""
    test = SequentialTest(limit, ALPHA)
    for gain, loss in test._gains:
        assert limit * math.exp(gain) + (1 - limit) * math.exp(loss) == pytest.approx(1)
    assert sum(expected for _, expected in ODDS) == pytest.approx(1)
    assert AT_ONCE < 1


def test_false_alarms_at_the_limit_are_as_rare_as_promised_though_it_is_asked_after_every_answer():
    """A share of exactly the limit: here a test of one look would see the unlikely sooner or later."""
    drawn, runs, limit = random.Random(1), 120, 0.02
    alarms = 0
    for _ in range(runs):
        test = SequentialTest(limit, 0.05)
        at = 0.0
        for _ in range(3_000):
            at += 0.1
            test.add(at, drawn.random() < limit, 1)
            if test.above(3):
                alarms += 1
                break
    assert alarms <= 0.05 * runs


@pytest.mark.parametrize("hours", [0, 0.5, 2])
@pytest.mark.parametrize("interval", [0.1, 1, 60])
def test_three_bad_answers_in_a_row_are_enough_at_any_traffic_whenever_they_come(interval, hours):
    good = [(i * interval, 0.0, 1.0) for i in range(int(hours * 3600 / interval))]
    begin = len(good) * interval
    bad = [(begin + i * interval, 1.0, 1.0) for i in range(10)]
    assert alarm(0.001, good + bad) == pytest.approx(begin + 2 * interval)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3), st.integers(0, 50)), max_size=60))
def test_less_than_so_many_bad_ones_are_never_enough(steps):
    at, allowed, outcomes = 0.0, 2, []
    for seconds, wanted, good in steps:
        at, bad = at + seconds, min(wanted, allowed)
        allowed -= bad
        outcomes.append((at, float(bad), float(bad + good)))
    assert alarm(0.001, outcomes) is None


@given(st.integers(1, 10_000), st.floats(0.001, 100))
def test_good_answers_alone_are_never_an_alarm(number, seconds):
    assert alarm(0.001, [(i * seconds, 0.0, float(number)) for i in range(50)], at_least=0) is None


def test_it_tells_the_stretch_that_says_the_most():
    test = SequentialTest(0.001, ALPHA)
    for i in range(1000):
        test.add(i, 0, 100)
    for i in range(5):
        test.add(1000 + i, 50, 100)
    bad, total, since = test.since()
    assert (bad, total, since) == (250, 500, 1000)


def test_what_is_bad_already_counts_before_it_is_in():
    test = SequentialTest(0.01, ALPHA)
    assert not test.above(3, bad=2)
    assert test.above(3, bad=3)
    assert not test.above(3), "nothing was kept of it"


def test_the_same_traffic_in_larger_steps_says_nearly_the_same():
    small, large = SequentialTest(0.001, ALPHA), SequentialTest(0.001, ALPHA)
    for i in range(4000):
        small.add(i / 400, i % 100 == 0, 1)
        if i % 100 == 99:
            large.add(i / 400, 1, 100)
    assert small.above(3)
    assert large.above(3)


# --- pairs of answers

FAST, MIDDLE, SLOW = (0.0, 0.1), (0.1, 0.5), (0.5, 1.0)
BUCKETS = st.lists(
    st.tuples(st.sampled_from([FAST, MIDDLE, SLOW, (1.0, math.inf), (0.05, 0.2)]), st.integers(0, 30)), max_size=6
)


def by_hand(new, stable) -> float:
    pairs = [
        n * m * (low >= high) for (low, _), n in new for (_, high), m in stable
    ]  # fmt: skip
    return sum(pairs) / (sum(n for _, n in new) * sum(m for _, m in stable))


@given(BUCKETS, BUCKETS)
def test_pairs_are_counted_as_by_hand(new, stable):
    share, number = slower_pairs(new, stable)
    ours, theirs = sum(n for _, n in new), sum(n for _, n in stable)
    assert number == min(ours, theirs)
    assert share == pytest.approx(by_hand(new, stable) if number else 0.0)


def test_answers_of_one_bucket_are_not_told_apart():
    assert slower_pairs([(MIDDLE, 50)], [(MIDDLE, 50)]) == (0, 50)
    assert slower_pairs([(SLOW, 50)], [(MIDDLE, 20)]) == (1, 20)
    assert slower_pairs([((0.05, 0.2), 50)], [(FAST, 20)]) == (0, 20)


@given(st.lists(st.floats(0.001, 10), min_size=20, max_size=60), st.sampled_from([1.0, 0.5, 0.1]))
def test_a_distribution_is_not_slower_than_itself(seconds, tail):
    exact = [((s, s), 1.0) for s in seconds]
    different = [((math.nextafter(s, 0), s), 1.0) for s in seconds]
    share, _ = slower_pairs(different, exact, tail)
    assert share <= tail / 2 + 1e-9


def test_the_tail_is_of_the_slowest_answers_of_the_stable_version():
    stable = [(FAST, 90.0), (MIDDLE, 10.0)]
    assert slower_pairs([(FAST, 80), (SLOW, 20)], stable, 0.1)[0] == pytest.approx(0.2)
    assert slower_pairs([(FAST, 80), (SLOW, 20)], stable, 1.0)[0] == pytest.approx(0.2)
    assert slower_pairs([(MIDDLE, 100)], stable, 1.0)[0] == pytest.approx(0.9)
    assert slower_pairs([(MIDDLE, 100)], stable, 0.1)[0] == 0
