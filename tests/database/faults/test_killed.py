"""kill -9 at a step, and the next try: a few steps of each work here, every one in `make faults-database`."""

from __future__ import annotations

import pytest

from sandbox.database_faults.killing import Processes, killed_at_every_step
from sandbox.database_faults.place import Place
from sandbox.database_faults.works import WORKS

FEW = 2


def few(steps: int) -> range:
    """Not the same statement of every loop."""
    return range(steps // (2 * FEW) + 1, steps, steps // FEW)


@pytest.mark.parametrize("name", WORKS)
def test_killed_at_a_step_the_next_try_leaves_what_an_undisturbed_run_does(
    place: Place, tries: Processes, name: str
) -> None:
    found = killed_at_every_step(place, tries, WORKS[name], few)
    assert found.wrong == ()
    assert found.tried >= FEW - 1
