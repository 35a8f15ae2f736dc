"""What tables hold, told by one number."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import catalog, dump, restore
from handover.database.digest import Digest, content_digests
from tests.support.postgres import Servers

EVERYTHING = '''
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE TABLE kinds (
    j json, jb jsonb, x xml, p point, b box, f real, d double precision, n numeric, m money, by bytea, t timestamptz,
    tt timetz, i interval, r int4range, a text[], aa int[][], v bit varying, e mood, c pair, o positive, u uuid,
    ip inet, ts tsvector, rc regclass, rt regtype, ch "char", cf character(5), z oid, l pg_lsn,
    twice numeric GENERATED ALWAYS AS (n * 2) STORED
);
INSERT INTO kinds (j, x, p, f, d, m, by, t, i, a, e, c, rc, rt, n) VALUES (
    '{"b": 1,  "a": 2}', NULL, '(0.1,0.2)', 0.1, 1e-300, 1234.5, '\\xdeadbeef', '2026-03-29 02:30:00+02', '1 mon',
    '{NULL,"NULL",""}', 'bad', '(1,"x,y")', 'kinds', 'mood', 'NaN'
), (DEFAULT, NULL, '(NaN,Infinity)', '-0', 'Infinity', -0.01, '', 'infinity', '-1 day +2:00', '{}', 'good',
    '(,)', NULL, NULL, 1.10);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1, 2);
INSERT INTO parted VALUES (1, 'a'), (2, 'b');
CREATE SCHEMA "Other";
CREATE TABLE "Other"."Odd ""t"" ""%s {0}" ("a ""%s""" int, "{}" text);
INSERT INTO "Other"."Odd ""t"" ""%s {0}" VALUES (1, NULL), (1, '');
'''


@pytest.fixture
def everything(database: Database) -> Database:
    with database.connect() as connection:
        connection.execute(EVERYTHING.encode())
    return database


def digests(database: Database, *settings: str) -> dict[str, Digest]:
    with database.connect() as connection:
        for setting in settings:
            connection.execute(f"SET {setting}".encode())
        return content_digests(connection, catalog.tables(connection))


def test_a_restored_backup_has_the_digests_of_what_was_backed_up(everything: Database, s3: Any) -> None:
    before = digests(everything)
    record = dump.dump_to_s3(everything, s3, "backups", f"{everything.name}/digest.dump").record
    with restore.scratch_database(everything, f"{everything.name}_digest") as target:
        restore.restore(s3, record, target)
        assert digests(target) == before
    assert before["kinds"].rows == 2
    assert before["nothing"].rows == 1
    assert len(before) == 8


def test_settings_of_the_session_change_no_digest_and_stay(everything: Database) -> None:
    odd = (
        "TimeZone = 'Asia/Kathmandu'", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'",
        "extra_float_digits = -5", "search_path = ''", "quote_all_identifiers = on",
    )  # fmt: skip
    assert digests(everything, *odd) == digests(everything)
    with everything.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")
        content_digests(connection, ["kinds"])
        assert connection.execute("SHOW TimeZone").fetchone() == ("Asia/Kathmandu",)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE kinds SET d = 1.0000000000000002e-300 WHERE d = 1e-300",
        "UPDATE kinds SET j = '{\"b\": 1}' WHERE j IS NOT NULL",
        "UPDATE kinds SET a = '{\"\"}' WHERE a = '{}'",
        "UPDATE kinds SET by = NULL WHERE by = ''",
        "INSERT INTO nothing DEFAULT VALUES",
        "UPDATE customers SET name = CASE id WHEN 1 THEN 'Customer 2' ELSE 'Customer 1' END WHERE id < 3",
        "UPDATE orders SET customer_id = 3 - customer_id WHERE customer_id < 3",
        "UPDATE parted SET v = CASE v WHEN 'a' THEN 'b' ELSE 'a' END",
        'UPDATE "Other"."Odd ""t"" ""%s {0}" SET "{}" = NULL',
        "INSERT INTO visits SELECT * FROM visits",
        "UPDATE customers SET email = name, name = email WHERE id = 7",
    ],
)
def test_a_small_change_changes_the_digest_of_its_table_alone(everything: Database, change: str) -> None:
    before = digests(everything)
    with everything.connect() as connection:
        connection.execute(change.encode())
    after = digests(everything)
    assert [table for table in before if before[table] != after[table]] != []
    assert len([table for table in before if before[table] != after[table]]) == 1


def test_order_of_rows_and_columns_is_no_content(everything: Database) -> None:
    before = digests(everything)
    with everything.connect() as connection:
        connection.execute("CREATE TABLE again AS SELECT name, email, id FROM customers ORDER BY random()")
        connection.execute("DROP TABLE customers CASCADE")
        connection.execute("ALTER TABLE again RENAME TO customers")
    assert digests(everything) == before


def test_all_tables_are_read_of_one_moment(everything: Database, servers: Servers) -> None:
    before = digests(everything)
    with everything.connect(autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        servers.ask(everything, "DELETE FROM parted")
        assert content_digests(connection, ["parted"]) == {"parted": before["parted"]}
    assert digests(everything)["parted"].rows == 0


def test_a_table_that_is_not_there_has_no_digest(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(LookupError, match="there is no table guests"):
        content_digests(connection, ["orders", "guests"])
