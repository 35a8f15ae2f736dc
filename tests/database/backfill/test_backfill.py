"""Data that moves while others write, on a real PostgreSQL."""

from __future__ import annotations

import pytest

from handover.adapters.postgres import Database
from handover.database.backfill import checkpoint
from handover.database.backfill.checked import NotPossible
from handover.database.backfill.runner import RowFailed
from handover.database.backfill.stages import NotNow
from tests.database.backfill.conftest import TOTAL, Bench, writing

pytestmark = pytest.mark.sandbox
WRONG = "SELECT count(*) FROM sales WHERE total IS DISTINCT FROM pieces * price"


@pytest.mark.plan("Data gradually migrated in background")
def test_rows_are_filled_in_the_background_while_others_write(bench: Bench) -> None:
    shape = bench.expand()
    assert shape.dense
    statements = [
        "INSERT INTO sales (pieces, price) VALUES (3, 4)",
        "UPDATE sales SET pieces = pieces + 1 WHERE id = 1 + (random() * 4999)::int",
        "UPDATE sales SET id = id + 1000000 WHERE id = (SELECT min(id) FROM sales)",
    ]
    with writing(bench.database, statements) as written:
        while written[0] < 30:
            pass
        ended = bench.backfill(shape)
    assert (ended.how, ended.state.stage) == ("done", "filled")
    assert bench.ask(WRONG) == [(0,)]
    assert bench.stages.compare(shape).wrong == 0


def test_from_cutover_to_contract_old_and_new_applications_both_write(bench: Bench) -> None:
    back = {"table": "sales", "columns": {"full_note": "upper(note)"}, "add": {"full_note": "text"},
            "reverse": {"note": "lower(full_note)"}, "drop": ["note"]}  # fmt: skip
    bench = Bench(bench.database, back)
    shape = bench.expand()
    bench.backfill(shape)
    assert bench.stages.compare(shape).wrong_back == 0
    with pytest.raises(NotNow, match="was never cut over"):
        bench.stages.contract(shape.name, bench.move, 3600)
    bench.stages.cut_over(shape, required=False)
    bench.stages.cut_over(shape, required=False)
    bench.ask("INSERT INTO sales (id, pieces, price, note) VALUES (-1, 1, 1, 'old')")
    bench.ask("INSERT INTO sales (id, pieces, price, full_note) VALUES (-2, 1, 1, 'NEW')")
    bench.ask("UPDATE sales SET full_note = 'CHANGED' WHERE id = 1")
    bench.ask("UPDATE sales SET note = 'back again' WHERE id = 2")
    bench.ask("UPDATE sales SET price = 8 WHERE id = 3")
    assert bench.ask("SELECT id, note, full_note FROM sales WHERE id < 4 ORDER BY id") == [
        (-2, "new", "NEW"), (-1, "old", "OLD"), (1, "changed", "CHANGED"), (2, "back again", "BACK AGAIN"),
        (3, "sale 3", "SALE 3"),
    ]  # fmt: skip
    with pytest.raises(NotNow, match="cut over too lately: the way back is kept for 3"):
        bench.stages.contract(shape.name, bench.move, 3600)
    with pytest.raises(NotNow, match="nothing to abort"):
        bench.stages.abort(shape.name, "sales")
    bench.stages.contract(shape.name, bench.move, 0)
    bench.stages.contract(shape.name, bench.move, 0)
    assert bench.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    assert bench.ask("SELECT attname FROM pg_attribute WHERE attrelid = 'sales'::regclass AND attname = 'note'") == []


def test_new_columns_become_not_null_with_the_cutover(bench: Bench) -> None:
    shape = bench.expand()
    with pytest.raises(NotNow, match="is filling: only what is filled is cut over"):
        bench.stages.cut_over(shape, required=False)
    bench.backfill(shape)
    bench.stages.cut_over(shape, required=True)
    assert bench.ask(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'sales'::regclass AND attname = 'total'"
    ) == [(True,)]
    assert bench.ask("SELECT conname FROM pg_constraint WHERE conname LIKE 'zzz%'") == []
    bench.ask("INSERT INTO sales (pieces, price) VALUES (3, 4)")


def test_a_row_that_cannot_be_filled_is_named_by_its_key_and_nothing_else_of_it(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE sales SET note = 'secret' WHERE id = 1234")
        connection.execute("UPDATE sales SET note = id::text WHERE id <> 1234")
    bench = Bench(database, {"table": "sales", "columns": {"number": "note::int"}, "add": {"number": "int"}})
    shape = bench.expand()
    with pytest.raises(RowFailed) as failure:
        bench.backfill(shape)
    assert "the row id=1234 of sales cannot be filled (22P02: " in str(failure.value)
    assert "secret" not in str(failure.value)
    assert bench.ask("SELECT count(*) FROM sales WHERE number IS NOT NULL") == [(1233,)]
    bench.ask("UPDATE sales SET note = '1234' WHERE id = 1234")
    assert bench.backfill(shape).state.filled == 5000 - 1  # the mended row was filled by the trigger
    assert bench.stages.compare(shape).wrong == 0


def test_what_differs_is_counted_and_named_by_its_keys(bench: Bench) -> None:
    shape = bench.expand()
    bench.backfill(shape)
    bench.ask("ALTER TABLE sales DISABLE TRIGGER ALL; UPDATE sales SET total = 0 WHERE id IN (7, 4000)")
    found = bench.stages.compare(shape)
    assert (found.rows, found.wrong, found.keys) == (5000, 2, (("7",), ("4000",)))


def test_a_worker_that_another_one_follows_changes_nothing_more(bench: Bench) -> None:
    shape = bench.expand()
    with bench.database.connect() as connection:
        first = checkpoint.claim(connection, shape.name, "first")
        second = checkpoint.claim(connection, shape.name, "second")
        checkpoint.hold(connection, shape.name, second.generation)
        with pytest.raises(checkpoint.Superseded, match="this one had generation 1"):
            checkpoint.hold(connection, shape.name, first.generation)


def test_it_is_paused_goes_on_and_is_given_up(bench: Bench) -> None:
    shape = bench.expand()
    with bench.database.connect() as connection:
        assert checkpoint.pause(connection, shape.name, "by dba")
        ended = bench.backfill(shape)
        assert (ended.how, ended.why, ended.state.filled) == ("paused", "by dba", 0)
        assert checkpoint.pause(connection, shape.name, "")
    assert bench.backfill(shape).how == "done"
    bench.stages.abort(shape.name, "sales")
    assert bench.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    bench.ask("UPDATE sales SET pieces = 100")
    shape = bench.expand()
    assert bench.backfill(shape).state.filled == 5000
    assert bench.ask(WRONG) == [(0,)]


KINDS = {
    "sparse": ("id bigint PRIMARY KEY", "n * 7919"),
    "composite": ("a int, b text, PRIMARY KEY (a, b)", "n % 50, 'k' || n"),
    "uuid": ("id uuid PRIMARY KEY", "md5(n::text)::uuid"),
    "text": ("id text PRIMARY KEY", "'it''s %s \\' || n"),
    "time": ("id timestamptz PRIMARY KEY", "timestamptz '2026-01-01' + n * interval '1 s'"),
    "odd names": ('"select %s" int, "a""b" int, UNIQUE ("a""b", "select %s")', "n, n % 3"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_key_names_the_rows(database: Database, kind: str) -> None:
    columns, values = KINDS[kind]
    with database.connect() as connection:
        connection.execute('CREATE SCHEMA "App"')
        connection.execute(f'CREATE TABLE "App"."Order %" ({columns}, old int, new int)'.encode())
        if kind == "odd names":
            connection.execute('ALTER TABLE "App"."Order %" ALTER "select %s" SET NOT NULL, ALTER "a""b" SET NOT NULL')
        connection.execute(f'INSERT INTO "App"."Order %" SELECT {values}, n FROM generate_series(1, 2345) n'.encode())
        connection.execute('ANALYZE "App"."Order %"')
    bench = Bench(database, {"table": 'App."Order %"', "columns": {"new": "old % 100 -- a remark"}})
    shape = bench.expand()
    assert not shape.dense
    bench.ask(f'INSERT INTO "App"."Order %" SELECT {values}, n FROM generate_series(3000, 3010) n')
    ended = bench.backfill(shape)
    assert (ended.how, ended.state.filled) == ("done", 2345)
    assert bench.ask('SELECT count(*) FROM "App"."Order %" WHERE new IS DISTINCT FROM old % 100') == [(0,)]
    assert bench.stages.compare(shape).wrong == 0


REFUSED = {
    "no table": ({"table": "nothing"}, "there is no table nothing"),
    "no column": ({"add": {}}, "there is no column total: a migration of the release adds it, or `add`"),
    "no key": ({"key": ["nobody"]}, "there is no column nobody"),
    "not unique": ({"key": ["pieces"]}, "key pieces is not unique: no unique index has exactly these columns"),
    "not a column": ({"columns": {"total": "pieces * cost"}}, 'column total: column "cost" does not exist'),
    "other type": ({"columns": {"total": "note"}}, "column total: "),
    "the time": ({"columns": {"total": "extract(epoch FROM now())"}}, "it is not the same at all times"),
    "chance": ({"columns": {"total": "random()"}}, "it is not the same at all times"),
    "another table": ({"columns": {"total": "(SELECT 1)"}}, "cannot use subquery"),
    "itself": ({"columns": {"total": "total + 1"}}, 'column "total" does not exist'),
    "many": ({"columns": {"total": "sum(price)"}}, "aggregate functions are not allowed"),
    "two": ({"columns": {"total": "1; DROP TABLE sales"}}, "that is not one expression"),
    "more": (
        {"columns": {"total": "1) STORED, ADD COLUMN x int GENERATED ALWAYS AS (1"}},
        "its parentheses do not fit",
    ),
    "a type": ({"add": {"total": "money_bag"}}, 'type "money_bag" does not exist'),
    "the way back": ({"reverse": {"note": "totals"}}, 'column note: column "totals" does not exist'),
    "drop": ({"drop": ["note", "nope"]}, "there is no column nope that could be dropped"),
    "fires": ({"fires": ["nope"]}, "there is no trigger nope that could fire"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_touched(database: Database, why: str) -> None:
    more, said = REFUSED[why]
    bench = Bench(database, TOTAL | more)
    with pytest.raises(NotPossible) as refused:
        bench.shape()
    assert said in str(refused.value)
    assert bench.ask("SELECT count(*) FROM pg_class WHERE relname IN ('handover_data_migrations', 'nothing')") == [(0,)]
    assert bench.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]


@pytest.mark.parametrize(("trigger", "said"), [
    ("a_stamp BEFORE UPDATE", "trigger a_stamp would fire for every row that is filled: name it in `fires`"),
    ("zzzz BEFORE INSERT", "trigger zzzz fires after the one of this data migration"),
])  # fmt: skip
def test_a_trigger_in_the_way_is_named(database: Database, trigger: str, said: str) -> None:
    bench = Bench(database, TOTAL)
    bench.ask("CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.pieces := 2; RETURN NEW; END'")
    bench.ask(f"CREATE TRIGGER {trigger} ON sales FOR EACH ROW EXECUTE FUNCTION stamp()")
    with pytest.raises(NotPossible) as refused:
        bench.shape()
    assert said in str(refused.value)
    if trigger.startswith("a_stamp"):
        allowed = Bench(database, TOTAL | {"fires": ["a_stamp"]})
        shape = allowed.expand()
        allowed.backfill(shape)
        assert allowed.ask(WRONG) == [(0,)]
        assert allowed.ask("SELECT count(*) FROM sales WHERE pieces <> 2") == [(0,)]


PARTS = """
CREATE TABLE visits (id int PRIMARY KEY, day int) PARTITION BY RANGE (id);
CREATE TABLE v1 PARTITION OF visits FOR VALUES FROM (0) TO (1000);
CREATE TABLE v2 PARTITION OF visits FOR VALUES FROM (1000) TO (9000) PARTITION BY RANGE (id);
CREATE TABLE v3 PARTITION OF v2 FOR VALUES FROM (1000) TO (9000);
INSERT INTO visits SELECT n, n % 10 FROM generate_series(1, 2000) n;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
"""
WEEKS = {"table": "visits", "columns": {"week": "day / 7"}, "add": {"week": "int"}}


@pytest.mark.parametrize(("made", "said"), [
    ("TRIGGER stamp BEFORE UPDATE ON v3 FOR EACH ROW EXECUTE FUNCTION stamp()",
     "trigger stamp of v3 would fire for every row that is filled"),
    ("TRIGGER stamp AFTER UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION stamp()",
     "trigger stamp would fire for every row that is filled"),
    ("TRIGGER zzzz BEFORE INSERT ON v1 FOR EACH ROW EXECUTE FUNCTION stamp()",
     "trigger zzzz of v1 fires after the one of this data migration"),
    ("RULE also AS ON UPDATE TO visits DO ALSO NOTIFY visits", "rule also would act for every batch"),
    ("RULE never AS ON UPDATE TO visits DO INSTEAD NOTHING", "rule never would act for every batch"),
])  # fmt: skip
def test_what_else_an_update_would_do_is_named_wherever_it_stands(database: Database, made: str, said: str) -> None:
    bench = Bench(database, WEEKS)
    bench.ask(PARTS + f"CREATE {made}")
    with pytest.raises(NotPossible) as refused:
        bench.shape()
    assert str(refused.value).count(said) == 1


def test_a_trigger_of_a_partition_that_may_fire_comes_before_ours(database: Database) -> None:
    bench = Bench(database, WEEKS | {"fires": ["set_day"]})
    bench.ask(PARTS.replace("BEGIN", "BEGIN NEW.day := 7;"))
    bench.ask("CREATE TRIGGER set_day BEFORE UPDATE ON v3 FOR EACH ROW EXECUTE FUNCTION stamp()")
    bench.ask("CREATE TRIGGER for_statements BEFORE UPDATE ON v1 FOR EACH STATEMENT EXECUTE FUNCTION stamp()")
    shape = bench.expand()
    bench.backfill(shape)
    assert bench.stages.compare(shape).told(shape) == ""
    assert bench.ask("SELECT count(*) FROM visits WHERE id >= 1000 AND week = 1") == [(1001,)]


def test_a_rule_that_is_off_and_one_of_another_command_are_in_nobodys_way(database: Database) -> None:
    bench = Bench(database, TOTAL)
    bench.ask("CREATE RULE gone AS ON DELETE TO sales DO ALSO NOTIFY sales")
    bench.ask("CREATE RULE off AS ON UPDATE TO sales DO INSTEAD NOTHING; ALTER TABLE sales DISABLE RULE off")
    assert bench.shape().table == "sales"


def test_partitions_are_filled_too(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE visits (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
        connection.execute("CREATE TABLE v1 PARTITION OF visits FOR VALUES FROM (0) TO (5)")
        connection.execute("CREATE TABLE v2 PARTITION OF visits FOR VALUES FROM (5) TO (10)")
        connection.execute("INSERT INTO visits SELECT n, n % 10 FROM generate_series(1, 3000) n")
    bench = Bench(database, {"table": "visits", "columns": {"week": "day / 7"}, "add": {"week": "int"}})
    shape = bench.expand()
    assert bench.backfill(shape).state.filled == 3000
    assert bench.stages.compare(shape).wrong == 0
