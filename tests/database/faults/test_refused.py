"""What fails leaves nothing, and what is damaged is not restored: a few of each here, all in `make faults-database`."""

from __future__ import annotations

import pytest

from sandbox.database_faults import failing
from sandbox.database_faults.damaged import damaged
from sandbox.database_faults.place import Place

CASES = failing.cases(failing.REASONS[:2], every=4)
"""Those that wait for nothing."""


@pytest.mark.parametrize("what", CASES)
def test_no_object_and_no_row_of_a_migration_that_failed_is_there(place: Place, what: str) -> None:
    with place.world() as world:
        assert failing.failed(world, what, *CASES[what]).wrong == ()


def test_no_backup_with_another_bit_end_or_tail_reaches_a_database(place: Place) -> None:
    found = damaged(place, tries=3, compressions=("auto", "none"))
    assert [one.wrong for one in found] == [()] * 6
