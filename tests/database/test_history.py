"""The tables that migration tools keep, as they make them themselves, on real PostgreSQL."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from handover.database.history import History, HistoryUnreadable, read
from handover.plan.migration import MigrationTool

FLYWAY = """
CREATE TABLE flyway_schema_history (
    installed_rank int PRIMARY KEY, version varchar(50), description varchar(200) NOT NULL, type varchar(20) NOT NULL,
    script varchar(1000) NOT NULL, checksum int, installed_by varchar(100) NOT NULL,
    installed_on timestamp NOT NULL DEFAULT now(), execution_time int NOT NULL, success boolean NOT NULL
);
INSERT INTO flyway_schema_history VALUES
    (0, NULL, '<< Flyway Schema Creation >>', 'SCHEMA', '"shop"', NULL, 'o', now(), 0, true),
    (1, '1', 'init', 'SQL', 'V1__init.sql', 1, 'o', now(), 1, true),
    (2, '2', 'add', 'SQL', 'V2__add.sql', 2, 'o', now(), 1, true),
    (3, '2', 'add', 'UNDO_SQL', 'U2__add.sql', 3, 'o', now(), 1, true),
    (4, NULL, 'views', 'SQL', 'R__views.sql', 7, 'o', now(), 1, true),
    (5, NULL, 'views', 'SQL', 'R__views.sql', 8, 'o', now(), 1, true),
    (6, '3', 'broken', 'SQL', 'V3__broken.sql', 4, 'o', now(), 1, false),
    (7, NULL, 'java', 'JDBC', 'db.R__Java', NULL, 'o', now(), 1, true);
"""
LIQUIBASE = """
CREATE TABLE databasechangelog (
    id varchar(255) NOT NULL, author varchar(255) NOT NULL, filename varchar(255) NOT NULL,
    dateexecuted timestamp NOT NULL, orderexecuted int NOT NULL, exectype varchar(10) NOT NULL, md5sum varchar(35)
);
CREATE TABLE databasechangeloglock (
    id int PRIMARY KEY, locked boolean NOT NULL, lockgranted timestamp, lockedby varchar(255)
);
INSERT INTO databasechangelog VALUES
    ('1', 'ann', 'db/a.xml', now(), 1, 'EXECUTED', 'x'), ('2', 'ann', 'db/a.xml', now(), 2, 'MARK_RAN', 'x');
INSERT INTO databasechangeloglock VALUES (1, true, '2026-01-01 10:00', 'pod-7');
"""


@pytest.mark.parametrize(("tool", "sql", "found"), [
    ("alembic", "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
     "INSERT INTO alembic_version VALUES ('ae1'), ('b02')", History(("ae1", "b02"))),
    ("django", "CREATE TABLE django_migrations (id bigint PRIMARY KEY, app text, name text, applied timestamptz);"
     "INSERT INTO django_migrations VALUES (2, 'shop', '0002_b', now()), (1, 'shop', '0001_a', now())",
     History(("shop.0001_a", "shop.0002_b"))),
    ("flyway", FLYWAY, History(("1", "R__views.sql@8", "db.R__Java"), ("3 failed",))),
    ("golang_migrate", "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);"
     "INSERT INTO schema_migrations VALUES (7, false)", History(("7",))),
    ("golang_migrate", "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);"
     "INSERT INTO schema_migrations VALUES (7, true)", History((), ("7 dirty",))),
    ("goose", "CREATE TABLE goose_db_version (id int PRIMARY KEY, version_id bigint, is_applied boolean);"
     "INSERT INTO goose_db_version VALUES (1, 0, true), (2, 1, true), (3, 2, true), (4, 2, false)", History(("1",))),
    ("liquibase", LIQUIBASE, History(
        ("db/a.xml::1::ann", "db/a.xml::2::ann"), ("databasechangeloglock: locked since 2026-01-01 10:00:00 by pod-7",)
    )),
    ("rails", "CREATE TABLE schema_migrations (version varchar PRIMARY KEY);"
     "INSERT INTO schema_migrations VALUES ('20260102'), ('20260101')", History(("20260101", "20260102"))),
    ("rails", "SELECT 1", History()),
    ("rails", "CREATE TABLE schema_migrations (version varchar); INSERT INTO schema_migrations VALUES (NULL)",
     "schema_migrations has a migration without a name: say history_query instead"),
    ("flyway", "CREATE SCHEMA app; CREATE TABLE app.flyway_schema_history (version text)",
     "app.flyway_schema_history is no table of flyway: "),
    ("rails", "CREATE TABLE schema_migrations (versions text)", "is no table of rails: .*version.* does not exist"),
])  # fmt: skip
def test_what_a_tool_keeps(connection, tool, sql, found):
    connection.execute(sql)
    asked = MigrationTool(command=("migrate",), history=tool)
    if isinstance(found, History):
        assert read(connection, asked) == found
        return
    with pytest.raises(HistoryUnreadable, match=found):
        read(connection, asked)


@pytest.mark.parametrize(("query", "found"), [
    ("SELECT id::text FROM customers WHERE id < 3 ORDER BY id", History(("1", "2"))),
    ("SELECT id, email FROM customers", "one column"), ("SELECT NULL::text", "one column"),
    ("SELECT nothing FROM customers", "column \"nothing\" does not exist"),
    ("WITH gone AS (DELETE FROM customers RETURNING id) SELECT id FROM gone", "read-only"),
])  # fmt: skip
def test_a_query_of_the_plan(connection, query, found):
    asked = MigrationTool(command=("migrate",), history_query=query)
    if isinstance(found, History):
        assert read(connection, asked) == found
    else:
        with pytest.raises(HistoryUnreadable, match=found):
            read(connection, asked)
    assert connection.execute("SELECT count(*) FROM customers").fetchone() == (300,)


def test_no_history_is_not_an_empty_one(connection):
    assert read(connection, MigrationTool(command=("migrate",))) is None


@pytest.mark.parametrize(("more", "why"), [
    ({"history": "rails", "history_query": "SELECT 1"}, "not both"), ({"history": "magic"}, "history"),
    ({"undo_command": ("undo",)}, "undo_command without history"),
    ({"history_query": "DELETE FROM a"}, "history_query"),
    ({"command": ()}, "command"),
    ({"history": "alembic", "undo_command": ("alembic", "downgrade", "-{count}")},
     r"table of alembic has its newest migration alone, .* such as \[alembic, downgrade, '{to}'\]"),
    ({"history": "golang_migrate", "undo_command": ("migrate", "down", "{count}")}, r"\[migrate, goto, '{to}'\]"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(more, why):
    with pytest.raises(ValidationError, match=why):
        MigrationTool(**({"command": ("migrate",)} | more))


@pytest.mark.parametrize(("history", "undo"), [
    ("alembic", ("alembic", "downgrade", "{to}")), ("goose", ("undo", "{count}")), ("rails", ("undo", "{count}")),
])  # fmt: skip
def test_what_can_be_counted_may_be(history, undo):
    assert MigrationTool(command=("migrate",), history=history, undo_command=undo).undo_command == undo
