"""Names that PostgreSQL quotes are shown, values are not; and of its programs only their own lines."""

from __future__ import annotations

import psycopg
import pytest

from handover.adapters import messages, postgres
from handover.adapters.postgres import Database
from tests.support.postgres import Servers

ROW = "Jane Doe 4111-1111"
ADDRESS = "jane@example.com"
SAYS = "DO $x$ BEGIN RAISE EXCEPTION 'bad %', (SELECT name FROM t){more}; END $x$"


@pytest.fixture(scope="module")
def people(servers: Servers) -> Database:
    found = servers.new("owner")
    with found.connect() as connection:
        connection.execute("CREATE TABLE t (name text, address text)")
        connection.execute("INSERT INTO t VALUES (%s, %s)", (ROW, ADDRESS))
    return found


@pytest.mark.parametrize(
    "asks",
    [
        "SELECT name::int FROM t",
        "SELECT to_tsquery('simple', name) FROM t", "SELECT quote_ident(name)::regclass FROM t",
        "SELECT nextval(quote_ident(address)) FROM t", "SELECT set_config(address, 'x', false) FROM t",
        "SELECT current_setting(address) FROM t", "SELECT to_tsvector(address::regconfig, 'x') FROM t",
        "SELECT pg_get_serial_sequence('t', address) FROM t", "SELECT address::regtype FROM t",
        "SELECT name::regtype FROM t", "DO $x$ BEGIN EXECUTE 'SELECT 1 AS ' || (SELECT name FROM t); END $x$",
        "SELECT has_table_privilege(quote_ident(address), 'SELECT') FROM t",
        "SELECT ('$.' || address)::jsonpath FROM t",
        "SELECT to_date('x', address) FROM t", "SELECT format('%' || address, 1) FROM t", "SELECT name::json FROM t",
        "SELECT ('a\" table \"' || name)::int FROM t", "SELECT ('a\" ' || name)::int FROM t",
        SAYS.format(more=""), SAYS.format(more=" USING ERRCODE = 'unique_violation'"),
        SAYS.format(more=" USING ERRCODE = 'AB123'"), "DO $x$ BEGIN ASSERT false, (SELECT name FROM t); END $x$",
    ],
)  # fmt: skip
def test_no_error_tells_a_row(people: Database, asks: str) -> None:
    with people.connect() as connection, pytest.raises(psycopg.Error) as error:
        connection.execute(asks.encode())
    said = postgres.cause(error.value)
    assert [part for part in ("jane", "Doe", "4111", "example") if part in said] == [], said


@pytest.mark.parametrize(
    "said",
    [
        'relation "nothing" does not exist', 'column "Größe" of relation "public.Booking" contains null values',
        'extension "uuid-ossp" is not available',
        'character with byte sequence 0xe2 0x82 0xac in encoding "UTF8" has no equivalent in encoding "LATIN1"',
        'insert or update on table "orders" violates foreign key constraint "orders_customer_id_fkey"',
        'connection to server at "10.0.0.7", port 5432 failed: FATAL:  password authentication failed for user "svc"',
        'could not translate host name "db.internal" to address', 'permission denied for table orders',
    ],
)  # fmt: skip
def test_names_are_shown(said: str) -> None:
    assert messages.masked(said) == said


@pytest.mark.parametrize("said", ['syntax error at or near "TABEL"', 'syntax error at or near ")"'])
def test_a_word_is_shown_where_the_statement_is_wrong_itself(said: str) -> None:
    assert messages.masked(said, of_statement=True) == said
    assert messages.masked(said) == 'syntax error at or near "..."'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('value "4111111111" is out of range for type integer', 'value "..." is out of range for type integer'),
        ('invalid value for parameter "TimeZone": "Jane"', 'invalid value for parameter "TimeZone": "..."'),
        ('invalid input syntax for type integer: "a" table "Jane"', 'invalid input syntax for type integer: "..."'),
        ('invalid input syntax for type integer: "Jane', 'invalid input syntax for type integer: "..."'),
        ("ungültige Eingabesyntax für Typ integer: »Jane«", 'ungültige Eingabesyntax für Typ integer: "..."'),
        ("syntax error at or near \"'hunter2'\"", 'syntax error at or near "..."'),
        ('syntax error at or near "jane" of jsonpath input', 'syntax error at or near "..." of jsonpath input'),
    ],
)
def test_values_are_not(said: str, shown: str) -> None:
    assert messages.masked(said, of_statement=True) == shown


FAILED_COPY = b"""pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3401; 0 16387 TABLE DATA guests owner
pg_restore: error: COPY failed for table "guests": ERROR:  new row for relation "guests" violates check constraint "k"
DETAIL:  Failing row contains (1, Jane, C01X00T47).
CONTEXT:  COPY guests, line 1: "1	Jane	C01X00T47"
"""
FAILED_COMMAND = b"""/bin/pg_restore: error: could not execute query: ERROR:  foreign-data wrapper "far" does not exist
Command was: CREATE SERVER x FOREIGN DATA WRAPPER far OPTIONS (
    password 'hunter2'
);
"""
FAILED_CHECK = b"""pg_restore: error: COPY failed for table "guests": FEHLER:  bad Jane
KONTEXT:  PL/pgSQL-Funktion good(text) Zeile 1 bei RAISE
"""


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        (FAILED_COPY, "\n".join(FAILED_COPY.decode().splitlines()[:3])),
        (FAILED_COMMAND, FAILED_COMMAND.decode().splitlines()[0]),
        (FAILED_CHECK, f'pg_restore: error: COPY failed for table "guests": FEHLER:  {messages.RAISED}'),
        (b'pg_restore: error: COPY failed for table "t": ERROR:  invalid input: "Jane\nDoe"\n',
         'pg_restore: error: COPY failed for table "t": ERROR:  invalid input: "..."'),
        (b"Jane\n", "no message"), (b"", "no message"),
    ],
    ids=["row", "command", "raised", "value of two lines", "others' words", "nothing"],
)  # fmt: skip
def test_programs_show_no_row_and_no_statement(errors: bytes, shown: str) -> None:
    assert messages.printed(errors) == shown
