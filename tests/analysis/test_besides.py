"""Which of the good answers that a pod counts were to ourselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handover.analysis.besides import MOST_OWED, SURE, Besides

few = st.integers(0, 30)


@given(st.lists(st.tuples(few, few), max_size=60))
def test_never_more_are_taken_than_were_counted_or_sent(looks):
    besides, sent, taken = Besides(), 0.0, 0.0
    for more, good in looks:
        besides.sent(more)
        sent += more
        found = besides.take(good)
        assert 0 <= found <= min(good, MOST_OWED)
        taken += found
    assert taken <= sent


@given(st.lists(few, min_size=1, max_size=60))
def test_of_a_pod_that_counts_them_all_are_taken(clients):
    besides = Besides()
    for number in clients:
        besides.sent(10)
        assert besides.take(10 + number) == 10


def test_of_a_pod_that_leaves_them_out_none_are_taken_once_that_shows():
    besides, taken = Besides(), []
    for _ in range(30):
        besides.sent(10)
        taken.append(besides.take(1))
    assert set(taken[int(SURE / 10) + 1 :]) == {0}
