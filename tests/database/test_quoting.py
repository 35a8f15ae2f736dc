from __future__ import annotations

import pytest

from handover.database.quoting import without_texts


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("CREATE ROLE reporter LOGIN PASSWORD 'hunter2'", "CREATE ROLE reporter LOGIN PASSWORD '...'"),
        ("ALTER ROLE r PASSWORD E'it''s \\' hunter2' VALID", "ALTER ROLE r PASSWORD '...' VALID"),
        ("SELECT U&'hunter2', $x$hunter2$x$, $$hunter2$$, $1", "SELECT '...', '...', '...', $1"),
        ("SELECT 'hunter2", "SELECT '...'"),
        ("""UPDATE "it's" SET "User" = 'hunter2' WHERE n = 7""", """UPDATE "it's" SET "User" = '...' WHERE n = 7"""),
        (f"SELECT '{'x' * 80}', a", "SELECT '...', a"),
        (f"SELECT {'x' * 80}", f"SELECT {'x' * 53}"),
        ("", ""),
    ],
)
def test_statement_is_quoted_without_its_texts(statement: str, shown: str) -> None:
    assert without_texts(statement) == shown
