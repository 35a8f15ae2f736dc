"""A protocol that is broken is found out: else the schedules would prove nothing."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, found_after

WITHIN = 4000
"""Schedules; every run tries more than five times as many."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_it_is_found(player, name):
    number, violation = found_after(player, name, WITHIN)
    assert violation is not None, f"not within {WITHIN} schedules"
    print(f"{name}: found by schedule {number}: {violation}")
