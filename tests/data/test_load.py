"""Importing into a real PostgreSQL: every bad row is named, nothing is ever half imported, twice is once."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.adapters.postgres import Database
from handover.data.csv_file import Form, reading
from handover.data.load import Imported, NotImported, import_rows
from handover.plan.data import Import
from tests.support.postgres import PASSWORD
from tests.support.until import until

ROOT = Path(__file__).resolve().parents[2]
HEADER = "number,customer,ordered,total"
GOOD = f"{HEADER}\nA1,c1@example.com,2024-01-02,10.50\nA2,c2@example.com,2024-02-29,7\n"


class Importing:
    """Imports texts; keeps the last report."""

    def __init__(self, connection: psycopg.Connection[Any], spec: Import) -> None:
        self.connection, self.spec = connection, spec
        self.report: list[list[str]] = []

    def __call__(self, content: str, on_rejects: Any = "abort", timeout: float = 60) -> Imported:
        with reading(io.BytesIO(content.encode()), self.spec, Form()) as rows:
            return import_rows(
                self.connection, rows, self.spec, on_rejects=on_rejects, timeout_seconds=timeout,
                write_report=self._keep,
            )  # fmt: skip

    def _keep(self, content: IO[bytes]) -> None:
        header, *self.report = csv.reader(io.StringIO(content.read().decode(), newline=""))
        assert header == ["line", "column", "value", "reason"]

    def rows(self, columns: str = "number") -> list[Any]:
        found = self.connection.execute(f"SELECT {columns} FROM orders ORDER BY id".encode()).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    @property
    def count(self) -> int:
        return len(self.rows("id"))


@pytest.fixture
def importing(connection: psycopg.Connection[Any], spec: Import) -> Importing:
    return Importing(connection, spec)


def counts(outcome: Imported) -> tuple[int, int, int, int]:
    return outcome.rows, outcome.imported, outcome.present, outcome.rejected


def test_rows_arrive_with_ids_looked_up_and_defaults_filled(importing: Importing) -> None:
    assert counts(importing(GOOD)) == (2, 2, 0, 0)
    assert importing.report == []
    day = datetime.date
    assert importing.rows("number, customer_id, ordered, delivered, status, total::text, items, note") == [
        ("A1", 1, day(2024, 1, 2), None, "done", "10.50", None, None),
        ("A2", 2, day(2024, 2, 29), None, "done", "7.00", None, None),
    ]
    (at,) = set(importing.rows("at"))
    assert at.date() == datetime.datetime.now(datetime.UTC).date()  # the table's own default


def test_a_second_import_changes_nothing_and_new_rows_are_added(importing: Importing) -> None:
    importing(GOOD)
    before = importing.rows("id, xmin::text")
    assert counts(importing(GOOD)) == (2, 0, 2, 0)
    assert importing.rows("id, xmin::text") == before
    assert counts(importing(GOOD + "A3,c3@example.com,2024-03-01,1\n")) == (3, 1, 2, 0)
    assert importing.rows() == ["A1", "A2", "A3"]


FULL = "number,customer,ordered,delivered,status,total,items,gift,note\n"
BAD = [
    # the row, and what the report says of it: column, value, reason
    (",c1@example.com,2024-01-02,,,1,,,", [("number", "", "is missing")]),
    ("B2,nobody@example.com,2024-01-02,,,1,,,",
     [("customer", "nobody@example.com", "is not a known email of customers")]),
    ("B3,,2024-01-02,,,1,,,", [("customer", "", "is missing")]),
    ("B4,c1@example.com,2024-02-30,,,1,,,", [("ordered", "2024-02-30", "is not a date YYYY-MM-DD")]),
    ("B5,c1@example.com,today,,,1,,,", [("ordered", "today", "is not a date YYYY-MM-DD")]),
    ("B6,c1@example.com,01/02/2024,,,1,,,", [("ordered", "01/02/2024", "is not a date YYYY-MM-DD")]),
    ("B7,c1@example.com,2024-01-02,2024-01-01,,1,,,", [("delivered", "2024-01-01", "is before it was ordered")]),
    ("B8,c1@example.com,2024-01-02,,lost,1,,,", [("status", "lost", "is none of open, done")]),
    ('B9,c1@example.com,2024-01-02,,,"1,50",,,',
     [("total", "1,50", "is not a number like 1234.5 that fits numeric(8,2)")]),
    ("B10,c1@example.com,2024-01-02,,,1.005,,,",
     [("total", "1.005", "is not a number like 1234.5 that fits numeric(8,2)")]),
    ("B11,c1@example.com,2024-01-02,,,1234567.00,,,",
     [("total", "1234567.00", "is not a number like 1234.5 that fits numeric(8,2)")]),
    ("B12,c1@example.com,2024-01-02,,,NaN,,,",
     [("total", "NaN", "is not a number like 1234.5 that fits numeric(8,2)")]),
    ("B13,c1@example.com,2024-01-02,,,-1,,,", [("total", "-1.00", "is not above 0")]),
    ("B14,c1@example.com,2024-01-02,,,1,2147483648,,",
     [("items", "2147483648", "is not a whole number that fits integer")]),
    ("B15,c1@example.com,2024-01-02,,,1,1.0,,", [("items", "1.0", "is not a whole number that fits integer")]),
    ("B16,c1@example.com,2024-01-02,,,1,,maybe,", [("gift", "maybe", "is neither true nor false")]),
    ("B" * 21 + ",c1@example.com,2024-01-02,,,1,,,",
     [("number", "B" * 21, "does not fit character varying(20)")]),
    ("B19,c1@example.com", [("", "", "2 values instead of 9")]),
    ("B20,nobody,never,,lost,much,,,",
     [("customer", "nobody", "is not a known email of customers"), ("ordered", "never", "is not a date YYYY-MM-DD"),
      ("status", "lost", "is none of open, done"),
      ("total", "much", "is not a number like 1234.5 that fits numeric(8,2)")]),
    ("B21," + "x" * 500 + ",2024-01-02,,,1,,,",
     [("customer", "x" * 57 + "...", "is not a known email of customers")]),
    ("G1,c1@example.com,2024-01-02,,,5,,,",
     [("number", "G1", "has the same key as line 2")]),
]  # fmt: skip
GOOD_ROW = 'G1,c1@example.com,2024-01-02,2024-01-03,open,5,3,true,"a ""note""\n2nd line"\n'


def bad_file() -> tuple[str, list[list[str]]]:
    """A file whose first row takes two lines, and the report that it must get."""
    expected = [[str(line), *fault] for line, (_, faults) in enumerate(BAD, 4) for fault in faults]
    return FULL + GOOD_ROW + "".join(row + "\n" for row, _ in BAD), expected


@pytest.mark.plan("CSV import for historical bookings")
def test_every_fault_of_every_row_is_in_the_report_with_its_line(importing: Importing) -> None:
    content, expected = bad_file()
    outcome = importing(content)
    assert importing.report == expected
    assert counts(outcome) == (len(BAD) + 1, 0, 0, len(BAD))
    assert outcome.faults == len(expected)
    assert outcome.first[:2] == ("line 4, number is missing", "line 5, customer is not a known email of customers")
    assert importing.count == 0


def test_skip_imports_the_others_and_only_them(importing: Importing) -> None:
    content, _ = bad_file()
    assert counts(importing(content, "skip")) == (len(BAD) + 1, 1, 0, len(BAD))
    assert importing.rows("number, items, gift, note") == [("G1", 3, True, 'a "note"\n2nd line')]
    assert counts(importing(content, "skip")) == (len(BAD) + 1, 0, 1, len(BAD))


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2024-01-01 10:00", 10), ("2024-01-01T10:00:00.5Z", 10), ("2024-01-01 10:00:00+02:00", 8),
        ("yesterday", "is not a time YYYY-MM-DD HH:MM:SS, with or without a zone"), ("", "is missing"),
        ("2024-01-01 25:00", "is not a time YYYY-MM-DD HH:MM:SS, with or without a zone"),
    ],
)  # fmt: skip
def test_times_are_utc_unless_they_say_otherwise(importing: Importing, text: str, hour: int | str) -> None:
    outcome = importing(f"{HEADER},at\nA1,c1@example.com,2024-01-02,1,{text}\n")
    if isinstance(hour, str):
        assert importing.report == [["2", "at", text, hour]]
    else:
        assert outcome.imported == 1
        assert importing.rows("extract(hour FROM at AT TIME ZONE 'UTC')::int") == [hour]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("A9,c1@example.com,2024-01-02,0", ["4", "total", "0.00", "is not above 0"]),
        ("A1,c1@example.com,2024-01-02,9", ["4", "number", "A1", "has the same key as line 2"]),
    ],
)
def test_rules_and_doubled_keys(importing: Importing, row: str, fault: list[str]) -> None:
    importing(f"{GOOD}{row}\n")
    assert importing.report == [fault]
    assert importing.rows() == []


def test_a_row_that_is_there_with_other_values_is_rejected(importing: Importing) -> None:
    importing(GOOD)
    outcome = importing(f"{HEADER}\nA1,c5@example.com,2024-01-02,11\nA2,c2@example.com,2024-02-29,7\n")
    assert outcome.first == ("line 2, number is in the table already, with another customer_id, total",)
    assert importing.rows("customer_id, total::text") == [(1, "10.50"), (2, "7.00")]


def test_all_rows_bad_is_reported_whole_and_shown_short(importing: Importing) -> None:
    outcome = importing(HEADER + "\n" + "x,y,z,1\n" * 5000)
    assert len(importing.report) == outcome.faults == 10_000
    assert len(outcome.first) == 5


def refused(importing: Importing, content: str = GOOD, **more: Any) -> str:
    with pytest.raises(NotImported) as error:
        importing(content, **more)
    assert importing.count == 0
    return str(error.value)


def test_a_constraint_that_the_plan_does_not_know_keeps_everything_out(importing: Importing) -> None:
    assert refused(importing, GOOD + "A3,c3@example.com,2024-01-02,13\n") == (
        "line 4: the table refuses rows that the plan allows: "
        'new row for relation "orders" violates check constraint "orders_total_check"'
    )


def test_an_older_schema_is_named(importing: Importing, connection: psycopg.Connection[Any]) -> None:
    connection.execute("ALTER TABLE orders DROP COLUMN total")
    assert refused(importing) == "the table orders has no total: is the schema older than the plan? Migrate it first"
    connection.execute("ALTER TABLE orders RENAME TO olders")
    with pytest.raises(NotImported, match="there is no table orders; migrate the database first"):
        importing(GOOD)


def test_keys_and_lookups_need_unique_indices(importing: Importing, connection: psycopg.Connection[Any]) -> None:
    connection.execute("ALTER TABLE orders DROP CONSTRAINT orders_number_key")
    assert refused(importing) == "orders has no unique index on number, so a row could be two"
    connection.execute("CREATE UNIQUE INDEX ON orders (number)")
    connection.execute("ALTER TABLE customers DROP CONSTRAINT customers_email_key")
    assert refused(importing) == "customers has no unique index on email, so a row could be two"


def test_a_statement_that_takes_too_long_ends_it(importing: Importing, database: Database) -> None:
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        assert refused(importing, timeout=0.2) == "it took longer than 0.2 s (data.statement_timeout_seconds)"


def test_two_imports_at_once_are_one(importing: Importing, database: Database, spec: Import) -> None:
    def beside(_: IO[bytes]) -> None:  # runs while the first one is in the middle
        with database.connect() as connection:
            assert refused(Importing(connection, spec)) == "another import into orders is running; wait for its end"

    with reading(io.BytesIO(GOOD.encode()), spec, Form()) as rows:
        outcome = import_rows(
            importing.connection, rows, spec, on_rejects="abort", timeout_seconds=9, write_report=beside
        )
    assert outcome.imported == 2


def test_a_report_that_cannot_be_written_keeps_everything_out(importing: Importing, spec: Import) -> None:
    def fail(_: IO[bytes]) -> None:
        raise OSError("disk full")

    with reading(io.BytesIO(GOOD.encode()), spec, Form()) as rows, pytest.raises(OSError, match="disk full"):
        import_rows(importing.connection, rows, spec, on_rejects="abort", timeout_seconds=9, write_report=fail)
    assert importing.rows() == []


NOTE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NOTE, min_size=1, max_size=8))
def test_odd_values_come_back_as_they_were(importing: Importing, notes: list[str]) -> None:
    importing.connection.execute("TRUNCATE orders")
    file = io.StringIO()
    rows = [(f"N{n}", "c1@example.com", "2024-01-01", "1", note) for n, note in enumerate(notes)]
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([(*HEADER.split(","), "note"), *rows])
    importing(file.getvalue())
    assert importing.rows("note") == notes


# What follows runs in a process of its own.

PROGRAM = """
import json, os, re, signal, sys
from dataclasses import replace
from pathlib import Path
from handover.data import csv_file, load, places
from handover.adapters.postgres import Database
from handover.plan.data import Import
dsn, spec, dies, *files = sys.argv[1:]
spec = Import.model_validate(json.loads(spec))

class Dying:
    def __init__(self, stream):
        self.stream, self.reads = stream, 0
    def read(self, size):
        if self.reads:
            os.kill(os.getpid(), signal.SIGKILL)
        self.reads += 1
        return self.stream.read(size)

def imported(file):
    place, connection = places.place(file, (str(Path(file).parent),), lambda: None), Database.from_uri(dsn).connect()
    with place.open() as stream, csv_file.reading(stream, spec, csv_file.Form()) as rows:
        if dies:
            rows = replace(rows, stream=Dying(rows.stream))
        outcome = load.import_rows(
            connection, rows, spec, on_rejects="abort", timeout_seconds=300, write_report=place.write_report
        )
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
    return outcome.imported, int(peak)

print(json.dumps([imported(file) for file in files]))
"""


def process(database: Database, spec: Import, *files: Path, dies: bool = False) -> subprocess.Popen[str]:
    """``dies``: is killed while it sends its rows, after the first part of them."""
    dsn = f"postgresql://owner:{PASSWORD}@{database.host}:{database.port}/{database.name}"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, dsn, spec.model_dump_json(), "yes" if dies else "", *map(str, files)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}/plugins:{ROOT}"},
    )  # fmt: skip


def big_file(path: Path, rows: int, begin: int = 0, note: str = "") -> Path:
    with path.open("w") as file:
        file.write(f"{HEADER},note\n")
        file.writelines(
            f"A{n},c{1 + n % 300}@example.com,2024-01-02,{n % 900 + 1}.25,{note}\n" for n in range(begin, begin + rows)
        )
    return path


def others(importing: Importing, condition: str = "true") -> bool:
    """Whether there is another session of this database of which this holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND "
    found = importing.connection.execute(f"{query}{condition}".encode()).fetchone()
    return bool(found and found[0])


def test_killed_while_it_sends_rows_nothing_is_left(
    importing: Importing, database: Database, spec: Import, tmp_path: Path
) -> None:
    file = big_file(tmp_path / "rows.csv", 1000, note="x" * 1000)  # several parts long
    assert process(database, spec, file, dies=True).wait() == -signal.SIGKILL
    nothing_is_left(importing, file, 1000)


def test_killed_while_it_inserts_nothing_is_left(
    importing: Importing, database: Database, spec: Import, tmp_path: Path
) -> None:
    file = big_file(tmp_path / "rows.csv", 100)
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE orders IN SHARE MODE")  # it can read everything, and waits before its first row
        running = process(database, spec, file)
        inserts = "wait_event_type = 'Lock' AND query LIKE 'INSERT INTO \"public\".\"orders\"%'"
        until(lambda: others(importing, inserts), "the insert")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    nothing_is_left(importing, file, 100)


def nothing_is_left(importing: Importing, file: Path, rows: int) -> None:
    """Once the server has noticed; and the next try has nothing in its way."""
    until(lambda: not others(importing), "the end of its session")
    assert importing.count == 0
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'import%'"
    assert importing.connection.execute(left.encode()).fetchone() == (0,)
    assert importing(file.read_text()).imported == rows


def test_memory_does_not_grow_with_the_file(database: Database, spec: Import, tmp_path: Path) -> None:
    note = "x" * 2100
    files = big_file(tmp_path / "small.csv", 1000, note=note), big_file(tmp_path / "big.csv", 20_000, 1000, note)
    assert files[1].stat().st_size > 40 * 2**20
    said = process(database, spec, *files).communicate()[0]
    (small, before), (big, after) = json.loads(said)
    assert (small, big) == (1000, 20_000)
    assert after - before < 10 * 1024, said  # KiB
    assert after < 300 * 1024
