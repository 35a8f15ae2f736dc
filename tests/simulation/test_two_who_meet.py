"""Two who move traffic, who meet at every moment, with every fault at every call of either."""

from __future__ import annotations

import pytest

from tests.simulation.scenario import PAIRS, exhaustive

LONGEST = ("cutover", "watch")
"""As many schedules as all the others: in a file of its own, for another process."""


@pytest.mark.parametrize("names", [names for names in PAIRS if names != LONGEST], ids=" and ".join)
def test_every_fault_at_every_call_of_two_who_meet_at_every_moment(player, play, names):
    play((schedule, cast, False) for schedule, cast in exhaustive(player, names))
