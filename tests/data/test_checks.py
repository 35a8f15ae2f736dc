"""Which rows of a file are rejected, and for what: keys, other unique columns, and columns of any name."""

from __future__ import annotations

from typing import Any

import pytest

from handover.data.load import MOST_REFUSED, NotImported
from tests.data.conftest import Importing

INT: dict[str, Any] = {"type": "integer"}
POSITIVE = {"column": "n", "must": "n > 0", "reason": "is not above 0"}
OURS = ["first", "others", "line", "line_", "_line", "_malformed", "value", "name", "reason", "bad", "s", "n", "t", "d",
        "f", "lookup_0", "1", "%s", "a b", 'a"b', "{a}", "total %"]  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_a_column_may_have_any_name(importing: Importing, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    importing.connection.execute(f"CREATE TABLE t ({quoted} int, last int, more int, UNIQUE ({quoted}, last))".encode())
    columns = {"a": {**INT, "into": name}, "last": INT, "more": INT}
    content = "a,last,more\n1,2,3\n1,3,4\n"
    assert importing(content, columns, ["a", "last"]).imported == 2
    assert importing(content, columns, ["a", "last"]).present == 2
    importing("a,last,more\n1,2,4\n5,6,7\n5,6,7\n", columns, ["a", "last"])
    assert importing.report == [
        ["2", "a, last", "1, 2", "is in the table already, with another more"],
        ["4", "a, last", "5, 6", "has the same key as line 3"],
    ]
    importing.connection.execute(f"CREATE TABLE u (id int PRIMARY KEY, {quoted} int)".encode())
    assert importing("id,a\n1,2\n", {"id": INT, "a": {**INT, "into": name}}, table="u").imported == 1
    importing("id,a\n1,3\n", {"id": INT, "a": {**INT, "into": name}}, table="u")
    assert importing.report == [["2", "id", "1", f"is in the table already, with another {name}"]]


@pytest.mark.parametrize("name", [*[name for name in OURS if name[0] != "_"], "xmin", "ctid", "tableoid"])
def test_a_column_of_the_file_may_have_any_name(importing: Importing, name: str) -> None:
    importing.connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    header = '"' + name.replace('"', '""') + '"'
    columns = {"id": INT, name: {**INT, "into": "n"}}
    rule = {"column": name, "must": f"{header} > 0", "reason": "is not above 0"}
    assert importing(f"id,{header}\n1,2\n2,0\n", columns, rules=[rule], on_rejects="skip").imported == 1
    assert importing.report == [["3", name, "0", "is not above 0"]]


def test_a_rejected_line_keeps_no_other_out(importing: Importing) -> None:
    importing.connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (2, 6)")
    columns = {"id": INT, "n": INT}
    outcome = importing("id,n\n1,-5\n1,5\n1,5\n2,5\n2,6\n", columns, on_rejects="skip", rules=[POSITIVE])
    assert (outcome.imported, outcome.present) == (1, 1)
    assert importing.report == [
        ["2", "n", "-5", "is not above 0"],
        ["4", "id", "1", "has the same key as line 3"],
        ["5", "id", "2", "is in the table already, with another n"],
    ]
    assert importing.one("SELECT n FROM t WHERE id = 1") == 5


@pytest.mark.parametrize("how", ["UNIQUE (email, n)", "UNIQUE (email, n) DEFERRABLE INITIALLY DEFERRED"])
def test_every_unique_index_is_asked(importing: Importing, how: str) -> None:
    importing.connection.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, email text, n int, {how}, UNIQUE (id, n));"
        "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (3, NULL, 1)".encode()
    )
    columns = {"id": INT, "mail": {"into": "email", "required": False}, "n": INT}
    content = "id,mail,n\n1,a,1\n4,a,1\n5,c,1\n6,c,01\n7,,1\n8,,1\n9,c,2\n"
    outcome = importing(content, columns, on_rejects="skip")
    assert (outcome.imported, outcome.present) == (4, 1)
    assert importing.report == [
        ["3", "mail, n", "a, 1", "is in the table already, in a row with another id"],
        ["5", "mail, n", "c, 01", "has the same mail, n as line 4"],
    ]


REFUSED = "the table refuses rows that the plan allows: new row for relation"


@pytest.mark.parametrize("bad", [[1], [2, 3], [63, 64, 100], [99, 100], list(range(1, MOST_REFUSED + 1))])
def test_lines_that_the_table_does_not_take_are_named(importing: Importing, bad: list[int]) -> None:
    importing.connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, CHECK (id <> ALL ('{set(bad)}')))".encode())
    content = "id\n" + "".join(f"{number}\n" for number in range(1, 101))
    with pytest.raises(NotImported, match=f"^line {bad[0] + 1}: {REFUSED}"):
        importing(content, {"id": INT})
    assert importing.one("SELECT count(*) FROM t") == 0
    outcome = importing(content, {"id": INT}, on_rejects="skip")
    assert (outcome.imported, outcome.rejected) == (100 - len(bad), len(bad))
    assert [(row[0], row[3].startswith(REFUSED)) for row in importing.report] == [(str(n + 1), True) for n in bad]
    assert importing(content, {"id": INT}, on_rejects="skip").present == 100 - len(bad)


def test_a_table_that_takes_hardly_anything_takes_nothing(importing: Importing) -> None:
    importing.connection.execute("CREATE TABLE t (id int PRIMARY KEY, CHECK (id < 10))")
    with pytest.raises(NotImported, match=f"^line {10 + MOST_REFUSED + 1}: {REFUSED}"):
        importing("id\n" + "".join(f"{number}\n" for number in range(1, 101)), {"id": INT}, on_rejects="skip")
    assert importing.one("SELECT count(*) FROM t") == 0


def test_with_skip_rows_without_a_partition_are_rejected(importing: Importing) -> None:
    importing.connection.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)"
    )
    outcome = importing("id,n\n1,1\n20,2\n3,3\n", {"id": INT, "n": INT}, on_rejects="skip")
    assert (outcome.imported, outcome.rejected) == (2, 1)
    assert importing.report == [
        ["3", "", "", 'the table refuses rows that the plan allows: no partition of relation "t" found for row']
    ]
