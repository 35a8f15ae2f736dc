"""What a repair does not bring back beside rows is named."""

from __future__ import annotations

import pytest

from handover.database.backfill import shape
from tests.database.test_repair_kinds import Shop, shop  # noqa: F401 - a fixture
from tests.support.postgres import Servers

OTHERS = "other objects"
LACKING = {
    "a large object": (
        "CREATE TABLE t (id int PRIMARY KEY, o oid); INSERT INTO t VALUES (1, lo_from_bytea(0, 'a'))",
        "SELECT lo_unlink(o) FROM t; DELETE FROM t",
        {OTHERS: "did not come back: 1 large objects"},
    ),
    "a view, with its table": (
        "CREATE VIEW v AS SELECT * FROM lines",
        "DROP TABLE lines CASCADE",
        {OTHERS: "did not come back: view v"},
    ),
    "a sequence and its default": (
        "CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT nextval('s')); INSERT INTO t VALUES (1)",
        "ALTER TABLE t ALTER n DROP DEFAULT; DROP SEQUENCE s; DELETE FROM t",
        {"t": "did not come back: default of the column n", OTHERS: "did not come back: sequence s"},
    ),
    "constraints": (
        "CREATE INDEX i ON lines (number)",
        "ALTER TABLE orders DROP CONSTRAINT orders_total_check; ALTER TABLE customers ALTER name DROP NOT NULL;"
        "ALTER TABLE customers DROP CONSTRAINT customers_email_key; DROP INDEX i",
        {
            "orders": "did not come back: constraint orders_total_check",
            "customers": "did not come back: NOT NULL of the column name, constraint customers_email_key",
            "lines": "did not come back: index i",
        },
    ),
    "a reference to a table that was dropped": (
        "CREATE TABLE r (id bigint REFERENCES orders)",
        "DROP TABLE lines, orders CASCADE",
        {"r": "did not come back: constraint r_id_fkey"},
    ),
    "what fires": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON lines FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE RULE r AS ON DELETE TO visits DO INSTEAD NOTHING",
        "DROP FUNCTION f CASCADE; DROP RULE r ON visits",
        {
            "lines": "did not come back: trigger t",
            "visits": "did not come back: rule r",
            OTHERS: "did not come back: function f()",
        },
    ),
    "an index of a dropped partition": (
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9); CREATE INDEX i ON t1 (id);"
        "INSERT INTO t VALUES (1)",
        "DROP TABLE t1",
        {OTHERS: "did not come back: index i of t1"},
    ),
    "a materialized view that was filled with damage": (
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM lines; CREATE MATERIALIZED VIEW w AS SELECT 1",
        "DELETE FROM lines; REFRESH MATERIALIZED VIEW v",
        {OTHERS: "filled by the migration or since: materialized view v: refresh it"},
    ),
    "a type and a schema": (
        "CREATE SCHEMA app; CREATE TYPE app.e AS ENUM ('a')",
        "DROP SCHEMA app CASCADE",
        {OTHERS: "did not come back: schema app, type app.e"},
    ),
    "a table under another name": (
        "CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 1); CREATE TABLE gone (it int)",
        "ALTER TABLE t RENAME TO u; CREATE TABLE v (id int, n int); DROP TABLE gone",
        {"t": "u is older than the migration, and may be this table under another name"},
    ),
}
"""A schema, what a migration does to it, and what is said of which table."""


@pytest.mark.parametrize("what", LACKING)
def test_what_did_not_come_back_is_named(shop: Shop, what: str) -> None:  # noqa: F811
    schema, up, said = LACKING[what]
    shop(schema)
    done = shop.damage(up)
    assert {name: table.left for name, table in done.items() if table.left} == said


def test_what_a_data_migration_made_for_itself_is_not_named(shop: Shop) -> None:  # noqa: F811
    name = shape.guard("totals")
    shop(f"""CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER {name} BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION {name}()""")
    done = shop.damage("DELETE FROM lines", None, f"DROP FUNCTION {name} CASCADE")
    assert [table.left for table in done.values() if table.left] == []


def test_nothing_is_named_that_down_sql_has_made_again(shop: Shop) -> None:  # noqa: F811
    shop("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM lines; CREATE INDEX i ON lines (number)")
    done = shop.damage(
        "DROP INDEX i; ALTER TABLE orders DROP CONSTRAINT orders_total_check; DELETE FROM lines",
        "CREATE INDEX i ON lines (number); ALTER TABLE orders ADD CHECK (total > 0)",
    )
    assert [table.left for table in done.values() if table.left] == []


@pytest.mark.parametrize("down", [None, "CREATE TABLE visits (at timestamptz DEFAULT now())"], ids=["", "by down.sql"])
def test_who_may_not_use_a_table_any_more_is_named(shop: Shop, servers: Servers, down: str | None) -> None:  # noqa: F811
    servers.ask(servers.primary, "DROP ROLE IF EXISTS repair_guest")
    servers.ask(servers.primary, "CREATE ROLE repair_guest")
    shop("GRANT SELECT ON ALL TABLES IN SCHEMA public TO repair_guest")
    try:
        done = shop.damage("DROP TABLE visits", down)
        assert {name: table.left for name, table in done.items() if table.left} == {
            "visits": "it was made again, and repair_guest may use other tables of its schema and not this one"
        }
    finally:
        shop("REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM repair_guest")
        servers.ask(servers.primary, "DROP ROLE repair_guest")
