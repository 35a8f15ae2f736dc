"""In which order tables are mended: parents first, those that refer to each other in a circle together."""

from __future__ import annotations

import pytest

from handover.database.aside import circles


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("", [["a"], ["b"], ["c"], ["d"]]),
        ("aa", [["a"], ["b"], ["c"], ["d"]]),
        ("ab bc cd", [["d"], ["c"], ["b"], ["a"]]),
        ("bc cb", [["a"], ["d"], ["b", "c"]]),
        ("ab bc cb cd", [["d"], ["b", "c"], ["a"]]),
        ("ab bc ca ad", [["d"], ["a", "b", "c"]]),
        ("ab ba cd dc ac", [["c", "d"], ["a", "b"]]),
        ("ax xa", [["a"], ["b"], ["c"], ["d"]]),
    ],
)
def test_tables_are_mended_parents_first_and_circles_at_once(pairs: str, expected: list[list[str]]) -> None:
    assert circles("abcd", [(child, parent) for child, parent in pairs.split()]) == expected
