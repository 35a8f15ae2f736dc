"""A cutover and the watch that sees a breach meanwhile: at every moment, with every fault at every call of either."""

from __future__ import annotations

import pytest

from tests.simulation.scenario import exhaustive
from tests.simulation.test_two_who_meet import LONGEST

PARTS = 4
"""So that somebody who waits sees it go on."""


@pytest.mark.parametrize("part", range(PARTS))
def test_every_fault_at_every_call_of_the_two_who_meet_at_every_moment(player, play, part):
    play((schedule, cast, False) for schedule, cast in exhaustive(player, LONGEST, part, PARTS))
