"""Tables by any name and in any schema, and what a dump does not carry."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from handover.adapters.postgres import Database
from handover.database import catalog, validation
from handover.database.dump import dump_to_s3
from handover.database.restore import differences, restore, scratch_database
from handover.models import table_name
from handover.plan.parts import TableName
from tests.support.postgres import Servers

Connection = psycopg.Connection[Any]
ODD = """
CREATE SCHEMA app;
CREATE TABLE "Booking" ("bookingId" serial PRIMARY KEY, note text);
CREATE TABLE "User" (id int PRIMARY KEY);
CREATE TABLE "odd ""name"", 100%" (id int PRIMARY KEY);
CREATE TABLE app.orders (id int PRIMARY KEY);
INSERT INTO "Booking" (note) VALUES ('a'), ('b');
INSERT INTO "User" SELECT generate_series(1, 3);
INSERT INTO "odd ""name"", 100%" VALUES (1);
INSERT INTO app.orders SELECT generate_series(1, 5)
"""
COUNTED = ("Booking", "User", '"odd ""name"", 100%"', "app.orders")
PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15)


@given(schema=PART, table=PART)
def test_any_name_can_be_written_and_is_read_as_it_was(schema: str, table: str) -> None:
    assert table_name.split(table_name.written(schema, table)) == (schema, table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("users", "users"), ("Booking", "Booking"), ('"Booking"', "Booking"), ("public.users", "users"),
        ('"public"."User"', "User"), ("app.orders", "app.orders"), ('"my app"."a.b"', '"my app"."a.b"'),
        ('"a""b"', '"a""b"'), ("z\u00e4hler", "z\u00e4hler"),
    ],
)  # fmt: skip
def test_names_in_a_plan(text: str, expected: str) -> None:
    assert TypeAdapter(TableName).validate_python(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a b", "a.b.c", "a-b", '"', '""', '"a', "a; DROP TABLE b", ".a", "a.", "1a", "x" * 64, '"a\0"']
)
def test_what_is_no_name_of_a_table(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TableName).validate_python(text)


def test_tables_of_any_name_are_counted_and_their_losses_seen(connection: Connection) -> None:
    connection.execute(ODD)
    before = validation.count(connection, COUNTED)
    assert before.rows == dict(zip(COUNTED, (2, 3, 1, 5), strict=True))
    assert before.last_keys == dict(zip(COUNTED, (2, 3, 1, 5), strict=True))
    connection.execute('DELETE FROM "User" WHERE id = 2; DELETE FROM app.orders WHERE id = 5')
    connection.execute("INSERT INTO app.orders VALUES (6), (7)")
    assert [part.passed for part in validation.compare_counts(connection, before)] == [True, False, True, False]


def test_a_counted_table_that_is_gone_has_lost_all_its_rows(connection: Connection) -> None:
    before = validation.count(connection, ("orders", "customers"))
    connection.execute("DROP TABLE lines, orders; CREATE TABLE bookings (id bigint PRIMARY KEY)")
    gone, kept = validation.compare_counts(connection, before)
    assert (gone.passed, gone.reason) == (False, "the table is gone, and with it all its 900 rows")
    assert [m.value for m in gone.measurements] == [900, 0]
    assert kept.passed
    # nor does a backup that has the rows excuse it
    assert not validation.compare_counts(connection, before, {"orders": 0})[0].passed


def test_a_counted_table_that_was_never_there_is_named(connection: Connection) -> None:
    found = validation.missing(connection, ("orders", "Orders", "app.orders"))
    assert (found.passed, found.reason) == (False, "there is no table: Orders, app.orders")
    assert validation.missing(connection, ("orders",)).passed


def test_columns_that_an_index_only_carries_are_no_key(connection: Connection) -> None:
    connection.execute("CREATE TABLE covering (b int, a int, c text, PRIMARY KEY (a, b) INCLUDE (c))")
    connection.execute("CREATE TABLE unique_only (a int NOT NULL UNIQUE, b int UNIQUE)")
    connection.execute("CREATE TABLE nullable (a int UNIQUE)")
    assert catalog.key(connection, "covering") == ("a", "b")
    assert catalog.key(connection, "unique_only") == ("a",)
    assert catalog.key(connection, "nullable") == ()


def test_backup_of_every_schema_is_compared(database: Database, connection: Connection, s3: Any) -> None:
    connection.execute(ODD)
    record = dump_to_s3(database, s3, "backups", f"{database.name}/odd.dump").record
    assert {table: record.counts[table] for table in COUNTED} == dict(zip(COUNTED, (2, 3, 1, 5), strict=True))
    with scratch_database(database, f"{database.name}_odd") as target:
        assert differences(record, restore(s3, record, target)) == []


def test_a_broken_index_is_in_no_backup_and_is_not_missed(database: Database, connection: Connection, s3: Any) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY bad ON orders (status)")
    assert catalog.invalid_indices(connection) == ["bad"]
    record = dump_to_s3(database, s3, "backups", f"{database.name}/bad.dump").record
    with scratch_database(database, f"{database.name}_bad") as target:
        assert differences(record, restore(s3, record, target)) == []


def test_broken_indices_of_other_schemas_are_seen(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA app; CREATE TABLE app.twice AS SELECT 1 AS a FROM generate_series(1, 2)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY bad ON app.twice (a)")
    connection.execute("ALTER TABLE app.twice ADD CONSTRAINT few CHECK (a > 1) NOT VALID")
    found = [part.reason for part in validation.structure(connection) if not part.passed]
    assert found == ["not valid: app.bad", "not validated: app.twice.few"]


def test_tables_of_an_extension_are_its_own(
    servers: Servers, database: Database, connection: Connection, s3: Any
) -> None:
    connection.execute("CREATE SCHEMA owned; CREATE TABLE owned.settings (id int PRIMARY KEY CHECK (id > 0))")
    servers.ask(servers.primary.named(database.name), "ALTER EXTENSION plpgsql ADD TABLE owned.settings")
    assert "owned.settings" not in catalog.tables(connection)
    record = dump_to_s3(database, s3, "backups", f"{database.name}/extension.dump").record
    with scratch_database(database, f"{database.name}_extension") as target:
        assert differences(record, restore(s3, record, target)) == []


def test_a_check_that_is_not_to_be_enforced_has_nothing_to_be_validated(
    database: Database, connection: Connection
) -> None:
    connection.execute("ALTER TABLE orders ADD CONSTRAINT hint CHECK (total < 10) NOT ENFORCED")
    assert catalog.constraints_not_validated(connection) == []
    connection.execute("ALTER TABLE orders ADD CONSTRAINT later CHECK (total < 10) NOT VALID")
    assert catalog.constraints_not_validated(connection) == ["orders.later"]


def test_partitions_come_back(database: Database, connection: Connection, s3: Any) -> None:
    connection.execute(
        "CREATE TABLE ev (id int PRIMARY KEY, d int) PARTITION BY RANGE (id);"
        "CREATE TABLE ev1 PARTITION OF ev FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE ev2 PARTITION OF ev FOR VALUES FROM (10) TO (20);"
        "CREATE INDEX ON ev (d); CREATE TABLE child (ev int REFERENCES ev);"
        "INSERT INTO ev SELECT n, n FROM generate_series(1, 15) n; INSERT INTO child VALUES (1), (11)"
    )
    record = dump_to_s3(database, s3, "backups", f"{database.name}/parts.dump").record
    assert (record.counts["ev"], record.counts["child"]) == (15, 2)
    with scratch_database(database, f"{database.name}_parts") as target:
        assert differences(record, restore(s3, record, target)) == []
