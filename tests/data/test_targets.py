"""What a table stores is what the file said: a value that its column would round, cut or take otherwise is rejected."""

from __future__ import annotations

from typing import Any

import pytest

from handover.data.load import NotImported
from handover.data.targets import unlimited
from tests.data.conftest import Importing

ID = {"type": "integer"}
NUMBER, TIME = "is not a number like 1234.5", "is not a time YYYY-MM-DD HH:MM:SS, with or without a zone"


@pytest.mark.parametrize(
    ("sql_type", "wider"),
    [
        ("numeric(8,2)", "numeric"), ("numeric(5,-2)", "numeric"), ("numeric(8,2)[]", "numeric[]"), ("numeric", None),
        ("character varying(3)", "character varying"), ("character varying", None), ("character(3)", "bpchar"),
        ("bpchar", None), ("bit(3)", "bit varying"), ("bit varying(3)[]", "bit varying[]"), ("text", None),
        ("timestamp(0) without time zone", "timestamp without time zone"), ("timestamp with time zone", None),
        ("time(3) with time zone", "time with time zone"), ("interval(0)", "interval"), ("interval", None),
        ("interval day to second(3)", "interval"), ("interval year", "interval"), ("integer", None),
        ("extensions.geometry(Point,4326)", None), ('"numeric(8,2)"', None),
    ],
)  # fmt: skip
def test_a_type_without_its_limit(sql_type: str, wider: str | None) -> None:
    assert unlimited(sql_type) == wider


@pytest.mark.parametrize(
    ("sql_type", "kind", "written", "says"),
    [
        ("numeric(5, -2)", "decimal", "1234", f"{NUMBER} that fits numeric(5,-2)"),
        ("numeric(5, -2)", "integer", "1234", "is not a whole number that fits numeric(5,-2)"),
        ("numeric(8, 2)", "decimal", "1.555", f"{NUMBER} that fits numeric(8,2)"),
        ("numeric(8, 2)", "text", "1.555", "does not fit numeric(8,2)"),
        ("numeric(3)", "decimal", "1.5", f"{NUMBER} that fits numeric(3,0)"),
        ("price", "text", "1.555", "does not fit price"),
        ("price", "decimal", "1.555", f"{NUMBER} that fits price"),
        ("numeric(8, 2)[]", "text", "{1.5,1.555}", "does not fit numeric(8,2)[]"),
        ("money", "decimal", "1.555", f"{NUMBER} that fits money"),
        ("money", "text", "1.555", "does not fit money"),
        ("real", "decimal", "16777217", f"{NUMBER} that fits real"),
        ("real", "integer", "16777217", "is not a whole number that fits real"),
        ("real", "text", "16777217", "does not fit real"),
        ("double precision", "integer", "9007199254740993", "is not a whole number that fits double precision"),
        ("double precision", "decimal", "9007199254740993.5", f"{NUMBER} that fits double precision"),
        ("real", "decimal", "1.23456789", f"{NUMBER} that fits real"),
        ("varchar(3)", "text", "ab  ", "does not fit character varying(3)"),
        ("interval(0)", "text", "1.5 s", "does not fit interval(0)"),
        ("timestamp(0)", "timestamp", "2024-12-31 23:59:59.6", f"{TIME}, that fits timestamp(0) without time zone"),
        ("timestamptz(0)", "timestamp", "2024-12-31 23:59:59.6Z", f"{TIME}, that fits timestamp(0) with time zone"),
        ("moment", "timestamp", "2024-12-31 23:59:59.0006", f"{TIME}, that fits moment"),
        ("timestamp", "timestamp", "2024-12-31 23:59:60", TIME),
        ("timestamp", "text", "2024-12-31 23:59:59.1234567", "does not fit timestamp without time zone"),
        ("time(0)", "text", "23:59:59.6", "does not fit time(0) without time zone"),
        ("date", "timestamp", "2024-12-31T23:30:00-05:00", f"{TIME}, that fits date"),
        ("date", "text", "2024-12-31 23:30", "does not fit date"),
        ("text", "date", "2024-02-30", "is not a date YYYY-MM-DD"),
        ("varchar(30)", "timestamp", "2024-99-99 77:77", f"{TIME}, that fits character varying(30)"),
        ("text", "timestamp", "2024-02-30 10:00", TIME),
    ],
)  # fmt: skip
def test_a_value_that_would_be_stored_as_another_is_rejected(
    importing: Importing, sql_type: str, kind: str, written: str, says: str
) -> None:
    importing.connection.execute(
        "CREATE DOMAIN price AS numeric(8, 2); CREATE DOMAIN moment AS timestamp(3);"
        f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type})".encode()
    )
    outcome = importing(f'id,v\n1,"{written}"\n2,\n', {"id": ID, "v": {"type": kind, "required": False}})
    assert (outcome.rejected, importing.report) == (1, [["2", "v", written, says]])


@pytest.mark.parametrize(
    ("sql_type", "kind", "written", "stored"),
    [
        ("numeric(5, -2)", "decimal", "1200", "1200"), ("numeric(8, 2)", "decimal", "1.500", "1.50"),
        ("numeric(8, 2)", "text", "1.5", "1.50"), ("numeric(8, 2)[]", "text", "{1.5,NULL}", "{1.50,NULL}"),
        ("real", "decimal", "0.1", "0.1"), ("real", "text", "NaN", "NaN"),
        ("double precision", "decimal", "0.1", "0.1"),
        ("double precision", "decimal", "0.10000000000000001", "0.1"),
        ("varchar(3)", "text", "ab ", "ab "), ("char(3)", "text", "ab ", "ab "), ("money", "decimal", "1.5", "$1.50"),
        ("timestamp(0)", "timestamp", "2024-12-31 23:59:59.0+01", "2024-12-31 22:59:59"),
        ("timestamp(3)", "text", "2024-12-31 23:59:59.1230000", "2024-12-31 23:59:59.123"),
        ("date", "timestamp", "2024-12-31T00:00Z", "2024-12-31"), ("date", "text", "20241231", "2024-12-31"),
        ("text", "date", "2024-02-29", "2024-02-29"),
        ("text", "timestamp", "2024-02-29 10:00+02", "2024-02-29 10:00+02"),
        ("text", "decimal", "01.50", "01.50"), ("interval(0)", "text", "2 s", "00:00:02"),
    ],
)  # fmt: skip
def test_a_value_that_is_kept_is_imported(
    importing: Importing, sql_type: str, kind: str, written: str, stored: str
) -> None:
    importing.connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type})".encode())
    assert importing(f'id,v\n1,"{written}"\n', {"id": ID, "v": {"type": kind}}).imported == 1
    assert importing.one("SELECT concat(v) FROM t") == stored


@pytest.mark.parametrize(
    ("kind", "default", "says"),
    [
        ("integer", "n/a", "the plan's default for v is not a whole number that fits numeric.8,2.: mend the plan"),
        ("decimal", "1.555", "the plan's default for v is not a number like 1234.5 that fits numeric.8,2."),
        ("text", "", "the plan's default for v does not fit numeric.8,2."),
    ],
)
def test_a_default_that_the_column_does_not_take_is_the_plan_s_fault(
    importing: Importing, kind: str, default: str, says: str
) -> None:
    importing.connection.execute("CREATE TABLE t (id int PRIMARY KEY, v numeric(8, 2))")
    columns = {"id": ID, "v": {"type": kind, "required": False, "default": default}}
    for content in ("id,v\n1,2\n", "id\n1\n"):
        with pytest.raises(NotImported, match=says):
            importing(content, columns)


@pytest.mark.parametrize("required", [True, False])
def test_what_is_looked_up_has_to_have_a_value(importing: Importing, required: bool) -> None:
    importing.connection.execute(
        "CREATE TABLE u (email text UNIQUE, ref int, no numeric(8, 2) UNIQUE); INSERT INTO u VALUES ('a', NULL, 1.56);"
        "CREATE TABLE t (id int PRIMARY KEY, r int)"
    )
    lookup: Any = {"into": "r", "required": required, "lookup": {"table": "u", "match": "email", "take": "ref"}}
    importing("id,r\n1,a\n", {"id": ID, "r": lookup})
    assert importing.report == [["2", "r", "a", "has no ref in u"]]
    lookup["lookup"]["match"] = "no"
    importing("id,r\n1,1.555\n", {"id": ID, "r": lookup})
    assert importing.report == [["2", "r", "1.555", "is not a known no of u"]]
