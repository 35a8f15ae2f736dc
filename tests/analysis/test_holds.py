"""How much of an answer's time may have been our own."""

from __future__ import annotations

import pytest

from handover.analysis.holds import KEPT_SECONDS, TURNS, Holds


@pytest.mark.parametrize(("late", "sent", "ours"), [
    ([], 0.0, 0.0), ([(1.0, 0.2)], 0.5, 0.2), ([(1.0, 0.2), (2.0, 0.1)], 0.5, 0.2), ([(1.0, 0.2)], 1.5, 0.0),
    ([(1.0, 0.0005)], 0.5, 0.0), ([(1.0, 0.2), (1.0 + 2 * KEPT_SECONDS, 0.1)], 0.5, 0.1),
])  # fmt: skip
def test_each_turn_may_have_waited_as_long_as_the_longest_since(late, sent, ours):
    holds = Holds()
    for at, seconds in late:
        holds.add(at, seconds)
    assert holds.ours(sent) == pytest.approx(TURNS * ours)
