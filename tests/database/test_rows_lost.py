"""What a repair cannot bring back is said, and is no damage that is left."""

from __future__ import annotations

import pytest

from handover.database.validation import ROWS_LOST, compared


@pytest.mark.parametrize(
    ("before", "now", "unsaved", "passes", "lost"),
    [
        (100, 100, 0, True, None),
        (100, 103, 5, True, None),
        (100, 98, 2, True, 2),
        (100, 97, 2, False, None),
        (100, 99, 0, False, None),
    ],
)
def test_only_rows_that_no_backup_has_may_be_lost(before, now, unsaved, passes, lost):
    found = compared("orders", before, now, exact=True, unsaved=unsaved)
    assert found.passed is passes
    assert [m.value for m in found.measurements if m.what == f"orders {ROWS_LOST}"] == ([lost] if lost else [])
