"""Tables that are hard to mend: each comes back as it was, or is named while all others come back."""

from __future__ import annotations

from typing import Any

import pytest

from handover.database.runner import StatementLimits
from tests.database.test_repair_kinds import Shop, shop  # noqa: F401 - a fixture
from tests.support.postgres import Servers

OTHER = "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1), (2);"
FILLED = "INSERT INTO t SELECT n, n, 'n' || n FROM generate_series(1, 5) n;"
PARTITIONED = """CREATE TABLE t (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE t24 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE t24_all PARTITION OF t24 DEFAULT;
CREATE TABLE t25 PARTITION OF t FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO t SELECT n, '2024-05-05' FROM generate_series(1, 9) n; INSERT INTO t VALUES (10, '2025-05-05');"""
INHERITED = """INSERT INTO t VALUES (1, 'a'); INSERT INTO zchild VALUES (2, 'b'), (3, 'c');"""
MENDED = {
    "children that inherit": (
        f"CREATE TABLE t (id int PRIMARY KEY, n text);CREATE TABLE zchild (PRIMARY KEY (id)) INHERITS (t); {INHERITED}",
        "UPDATE t SET n = 'x'; DELETE FROM zchild WHERE id = 3",
        "(SELECT tableoid::regclass, * FROM t)",
    ),
    "children that inherit, without a key": (
        f"CREATE TABLE t (id int, n text); CREATE TABLE zchild () INHERITS (t); {INHERITED}",
        "DELETE FROM t WHERE id <> 2",
        "(SELECT tableoid::regclass, * FROM t)",
    ),
    "values shifted": (
        f"CREATE TABLE t (id int PRIMARY KEY, place int NOT NULL UNIQUE, n text); {FILLED}",
        "UPDATE t SET place = place - 1",
        "t",
    ),
    "values swapped": (
        f"CREATE TABLE t (id int PRIMARY KEY, place int NOT NULL, n text UNIQUE); {FILLED}",
        "UPDATE t SET n = 'x' || n; UPDATE t SET n = 'n' || (6 - id)",
        "t",
    ),
    "values shifted, and referred to": (
        f"CREATE TABLE t (id int PRIMARY KEY, place int UNIQUE, n text); {FILLED}"
        "CREATE TABLE r (id int PRIMARY KEY REFERENCES t); INSERT INTO r VALUES (1)",
        "UPDATE t SET place = place - 1",
        "t",
    ),
    "uniqueness checked late": (
        f"CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, p int UNIQUE DEFERRABLE, n text); {FILLED}",
        "DELETE FROM t WHERE id = 5; UPDATE t SET p = 5 - p",
        "t",
    ),
    "a key from an expression": (
        "CREATE TABLE t (j jsonb NOT NULL, id text GENERATED ALWAYS AS (j->>'id') STORED PRIMARY KEY, n int);"
        "INSERT INTO t (j, n) SELECT jsonb_build_object('id', n), n FROM generate_series(1, 5) n",
        "DELETE FROM t WHERE id = '5'; UPDATE t SET n = 0 WHERE id = '1'",
        "t",
    ),
    "no columns": (
        "CREATE TABLE t (); INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES",
        "DELETE FROM t",
        "t",
    ),
    "a rule": (
        f"CREATE TABLE t (id int PRIMARY KEY, p int, n text); CREATE TABLE log (id int); {FILLED}"
        "CREATE RULE logged AS ON INSERT TO t DO ALSO INSERT INTO log VALUES (NEW.id);"
        "CREATE RULE kept AS ON UPDATE TO t DO INSTEAD NOTHING",
        "DELETE FROM t WHERE id = 5",
        "(SELECT t.*, (SELECT count(*) FROM log), (SELECT string_agg(ev_enabled::text, '') FROM pg_rewrite"
        " WHERE rulename IN ('logged', 'kept')) FROM t)",
    ),
    "a circle of references": (
        """CREATE TABLE t (id int PRIMARY KEY, home int);
        CREATE TABLE a (id int PRIMARY KEY, t int NOT NULL REFERENCES t);
        ALTER TABLE t ADD FOREIGN KEY (home) REFERENCES a; INSERT INTO t VALUES (1, NULL), (2, NULL);
        INSERT INTO a VALUES (7, 1), (8, 2); UPDATE t SET home = 6 + id;
        CREATE TABLE "Aa" (a int PRIMARY KEY REFERENCES a); INSERT INTO "Aa" VALUES (8)""",
        'UPDATE t SET home = NULL WHERE id = 2; DELETE FROM "Aa"; DELETE FROM a WHERE id = 8;'
        " DELETE FROM t WHERE id = 2",
        "(SELECT t, a, b, (SELECT bool_or(condeferrable) FROM pg_constraint) FROM t JOIN a ON a.t = t.id"
        ' LEFT JOIN "Aa" b ON b.a = a.id)',
    ),
    "a reference of one partition": (
        "CREATE TABLE zref (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, r int) PARTITION BY RANGE (id);"
        "CREATE TABLE aa PARTITION OF t FOR VALUES FROM (0) TO (9); ALTER TABLE aa ADD FOREIGN KEY (r) REFERENCES zref;"
        "INSERT INTO zref VALUES (1), (2); INSERT INTO t VALUES (1, 1), (2, 2)",
        "DELETE FROM t WHERE id = 2; DELETE FROM zref WHERE id = 2",
        "t",
    ),
    "a partition dropped": (PARTITIONED, "DROP TABLE t24", "(SELECT tableoid::regclass, * FROM t)"),
}
"""A schema with rows, what damages them, and what is compared."""


@pytest.mark.parametrize("what", MENDED)
def test_it_comes_back_as_it_was(shop: Shop, what: str) -> None:  # noqa: F811
    schema, up, compared = MENDED[what]
    shop(f"{OTHER} {schema}")
    before = shop.rows(compared)
    done = shop.damage(f"{up}; DELETE FROM other")
    assert [table.left for table in done.values() if table.left] == []
    assert shop.rows(compared) == before
    assert done["other"].inserted == 2


KEYED = f"CREATE TABLE t (id int PRIMARY KEY, p int NOT NULL, n text); {FILLED}"
NAMED = {
    "keys moved": (KEYED, "UPDATE t SET id = id + 100", "", "5 rows that the migration wrote are not in the backup"),
    "rows inserted": (KEYED, "INSERT INTO t SELECT id + 100, p FROM t", "", "5 rows that the migration wrote are not"),
    "rows inserted, without a key": (
        "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)",
        "INSERT INTO t SELECT * FROM t", "", "2 rows that the migration wrote are not in the backup",
    ),
    "keys moved to another partition": (
        "CREATE TABLE t (id int, r int, PRIMARY KEY (id, r)) PARTITION BY LIST (r);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);"
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "UPDATE t SET r = 2 WHERE id = 1", "", "1 rows that the migration wrote are not in the backup",
    ),
    "a key given again": (
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, p int); INSERT INTO t (p) VALUES (1), (2)",
        "TRUNCATE t RESTART IDENTITY", "INSERT INTO t (p) VALUES (9)",
        "1 rows differ, and were written since the migration, which left none of those before it",
    ),
    "a key of its own given again": (
        KEYED, "DELETE FROM t WHERE id > 3", "INSERT INTO t VALUES (4, 9, 'x')",
        "1 rows that others have written since the migration differ",
    ),
    "a damaged row written since": (
        KEYED, "UPDATE t SET p = 0", "UPDATE t SET n = 'mine' WHERE id = 2",
        "1 rows that others have written since the migration differ",
    ),
    "a value that somebody took": (
        "CREATE TABLE t (id int PRIMARY KEY, n text UNIQUE); INSERT INTO t SELECT n, n FROM generate_series(1, 5) n",
        "UPDATE t SET n = 'x' || n", "INSERT INTO t VALUES (6, '3')", "1 of its rows were not changed back: duplicate",
    ),
    "a value that somebody took, referred to": (
        "CREATE TABLE t (id int PRIMARY KEY, n text UNIQUE); INSERT INTO t SELECT n, n FROM generate_series(1, 5) n;"
        "CREATE TABLE r (id int REFERENCES t)",
        "UPDATE t SET n = 'x' || n", "INSERT INTO t VALUES (6, '3')", "1 of its rows were not changed back: duplicate",
    ),
    "values swapped, and referred to": (
        f"CREATE TABLE t (id int PRIMARY KEY, p int, n text UNIQUE); {FILLED} CREATE TABLE r (id int REFERENCES t)",
        "UPDATE t SET n = 'x' || n; UPDATE t SET n = 'n' || (6 - id)", "", "4 of its rows were not changed back: dupl",
    ),
    "a check that quotes the row": (
        "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'secret'), (2, 'b')",
        "CREATE FUNCTION no(n text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN IF n = ''secret'' THEN RAISE ''%'', n;"
        " END IF; RETURN true; END'; DELETE FROM t; ALTER TABLE t ADD CHECK (no(n))",
        "", "1 rows did not come back: a function of the service refuses it",
    ),
    "a new column without a default": (
        KEYED, "ALTER TABLE t ADD c text; UPDATE t SET c = 'x'; ALTER TABLE t ALTER c SET NOT NULL; DELETE FROM t"
        " WHERE id = 5", "", '1 rows did not come back: null value in column "c"',
    ),
    "an enum without a value": (
        "CREATE TYPE s AS ENUM ('a', 'b'); CREATE TABLE t (id int PRIMARY KEY, s s); INSERT INTO t VALUES (1, 'a'),"
        " (2, 'b')",
        "CREATE TYPE s2 AS ENUM ('a'); ALTER TABLE t ALTER s TYPE s2 USING 'a'; DROP TYPE s; ALTER TYPE s2 RENAME TO s",
        "", "1 of its rows are not mended: s does not hold their values any more",
    ),
    "a type that rounds": (
        "CREATE TABLE t (id int PRIMARY KEY, p numeric(9, 2)); INSERT INTO t VALUES (1, 1.5), (2, 2)",
        "ALTER TABLE t ALTER p TYPE numeric(9, 0)", "", "1 values of its column p are less than they were: numeric",
    ),
    "times that became days": (
        "CREATE TABLE t (id int PRIMARY KEY, p timestamp); INSERT INTO t VALUES (1, '2026-01-01 10:00')",
        "ALTER TABLE t ALTER p TYPE date", "", "1 values of its column p are less than they were: date rounds them",
    ),
    "times of a zone that nobody knows": (
        "CREATE TABLE t (id int PRIMARY KEY, p timestamptz); INSERT INTO t VALUES (1, '2026-01-01 10:00+00')",
        "ALTER TABLE t ALTER p TYPE timestamp USING p AT TIME ZONE 'Asia/Tokyo'", "", "its column p differs, and times",
    ),
}  # fmt: skip
"""A schema with rows, what the migration and what others do then, and what is said of it."""


@pytest.mark.parametrize("what", NAMED)
def test_what_cannot_be_told_or_mended_is_named_and_the_others_are_mended(shop: Shop, what: str) -> None:  # noqa: F811
    schema, up, meanwhile, said = NAMED[what]
    shop(f"{OTHER} {schema}")
    done = shop.damage(f"{up}; DELETE FROM other", None, meanwhile)
    assert done["t"].left.startswith(said)
    assert [name for name, table in done.items() if table.left] == ["t"]
    assert done["other"].inserted == 2


def test_what_others_wrote_into_untouched_rows_is_not_named(shop: Shop) -> None:  # noqa: F811
    shop(KEYED)
    done = shop.damage("UPDATE t SET p = 0 WHERE id > 3; DELETE FROM t WHERE id = 5", None,
                       "UPDATE t SET n = 'mine' WHERE id < 3; INSERT INTO t VALUES (6, 6)")  # fmt: skip
    assert not done["t"].left


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("ALTER TABLE t RENAME TO u; UPDATE u SET n = 'x'; DELETE FROM u WHERE id = 5", "ALTER TABLE u RENAME TO t"),
        ("UPDATE t SET n = 'x'; ALTER TABLE t SET SCHEMA app", "ALTER TABLE app.t SET SCHEMA public"),
        (
            "ALTER TABLE t RENAME TO old; CREATE TABLE t (id int PRIMARY KEY, p int); UPDATE old SET n = 'x'",
            "DROP TABLE t; ALTER TABLE old RENAME TO t",
        ),
        ("DROP TABLE t; CREATE TABLE t (id int)", f"DROP TABLE t; {KEYED} DELETE FROM t WHERE id = 4"),
        (
            "ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN n",
            "ALTER TABLE u RENAME TO t; ALTER TABLE t ADD n text",
        ),
    ],
    ids=["renamed", "another schema", "replaced", "made anew", "renamed, without a column"],
)
def test_a_table_is_followed_under_another_name(shop: Shop, up: str, down: str) -> None:  # noqa: F811
    shop(f"CREATE SCHEMA app; {KEYED}")
    before = shop.rows("t")
    done = shop.damage(up, down)
    assert (done["t"].left, shop.rows("t")) == ("", before)


def test_what_guests_wrote_under_another_name_stays(shop: Shop) -> None:  # noqa: F811
    shop(KEYED)
    done = shop.damage("ALTER TABLE t RENAME TO u; UPDATE u SET n = 'x' WHERE id > 3", "ALTER TABLE u RENAME TO t",
                       "UPDATE u SET p = 9 WHERE id = 1")  # fmt: skip
    assert (done["t"].updated, shop.one("SELECT p FROM t WHERE id = 1")) == (2, 9)


def test_each_partition_s_trigger_is_as_it_was(shop: Shop) -> None:  # noqa: F811
    shop("""CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
            CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20); INSERT INTO t VALUES (1), (11);
            CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'""")
    for name in ("usual", "always", "off", "replica"):
        shop(f"CREATE TRIGGER {name} BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()")
    shop("""ALTER TABLE t ENABLE ALWAYS TRIGGER always; ALTER TABLE t DISABLE TRIGGER off;
            ALTER TABLE t ENABLE REPLICA TRIGGER replica; ALTER TABLE t2 DISABLE TRIGGER usual""")
    states = "(SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal)"
    before = shop.rows(states)
    done = shop.damage("DELETE FROM t")
    assert done["t"].text == "t: 2 rows put back, its triggers always, usual did not fire"
    assert shop.rows(states) == before


def test_times_are_those_of_production_s_zone(shop: Shop) -> None:  # noqa: F811
    shop(f"""CREATE TABLE t (id int PRIMARY KEY, p timestamptz, n int);
             INSERT INTO t VALUES (1, '2026-01-01 10:00+00', 1), (2, '2026-01-01 10:00+00', 2);
             ALTER DATABASE {shop.database.name} SET TimeZone = 'America/New_York'""")
    done = shop.damage("ALTER TABLE t ALTER p TYPE timestamp; UPDATE t SET n = 0; DELETE FROM t WHERE id = 2")
    assert (done["t"].left, shop.rows("t")) == (
        "",
        [('(1,"2026-01-01 05:00:00",1)',), ('(2,"2026-01-01 05:00:00",2)',)],
    )


@pytest.mark.parametrize("damaged", [False, True], ids=["as it was", "damaged"])
def test_a_table_that_nobody_may_change_is_named_when_it_is_damaged(
    shop: Shop,  # noqa: F811
    servers: Servers,
    damaged: bool,
) -> None:
    shop(OTHER)
    everything = servers.primary.named(shop.database.name)
    for change in ("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)",
                   "GRANT SELECT, DELETE ON t TO owner"):  # fmt: skip
        servers.ask(everything, change)
    done = shop.damage("DELETE FROM other; DELETE FROM t" if damaged else "DELETE FROM other")
    assert done["t"].left == ("nothing of it was mended: permission denied for table t" if damaged else "")
    assert done["other"].inserted == 2


def test_a_sequence_that_nobody_may_move_is_named(shop: Shop) -> None:  # noqa: F811
    shop("CREATE SEQUENCE invoices")
    done = shop.damage("DELETE FROM lines", None, "REVOKE ALL ON SEQUENCE invoices FROM owner")
    assert done["lines"].inserted == 900
    said = "not all were moved past what they gave out: permission denied for sequence invoices"
    assert {name: table.left for name, table in done.items() if table.left} == {"sequences": said}


def test_bytes_of_a_database_without_an_encoding_come_back(servers: Servers, s3: Any, limits: StatementLimits) -> None:
    server, name = servers.primary, "bytes_without_encoding"
    servers.ask(server, f"CREATE DATABASE {name} OWNER owner TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C'"
                        " LC_CTYPE 'C'")  # fmt: skip
    database = servers.owned(name)
    with database.connect() as connection:
        plain = Shop(database, connection, s3, limits)
        plain(
            "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, convert_from('\\xe9', 'SQL_ASCII'))"
        )
        plain.damage("UPDATE t SET n = 'x'")
        assert plain.one("SELECT encode(convert_to(n, 'SQL_ASCII'), 'hex') FROM t") == "e9"
