"""Row security, also forced on the owner: a backup has all rows or is refused by name, and a repair opens nothing."""

from __future__ import annotations

from typing import Any

import pytest

from handover.adapters.postgres import Database
from handover.database import catalog, runner
from handover.database.backfill.checked import NotPossible
from handover.database.dump import DumpFailed, dump_to_s3
from handover.database.repair import Repaired, repair
from handover.database.restore import restore, scratch_database
from handover.database.restore_test import prove_restore
from handover.database.runner import StatementLimits
from handover.models.deployment import BackupRecord
from tests.database.backfill.conftest import Bench
from tests.database.conftest import SHOP, bundle
from tests.support.postgres import PASSWORD, Servers

FORCED = """
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY few ON orders USING (id < 10);
"""


@pytest.fixture(scope="module")
def roles(servers: Servers) -> None:
    """``seer`` is bound by no policy."""
    servers.ask(servers.primary, f"CREATE ROLE seer LOGIN CREATEDB BYPASSRLS PASSWORD '{PASSWORD}'")


@pytest.fixture
def secured(servers: Servers, roles: None) -> Database:
    """A shop of ``seer`` whose policy lets nobody else, and no owner either, see more than nine orders."""

    def filled(shop: Database) -> None:
        with shop.connect() as connection:
            connection.execute(SHOP.encode())
            connection.execute(FORCED.encode())

    return servers.copy("secured shop", "seer", filled)


@pytest.fixture
def elsewhere(replicated: Servers) -> Database:
    """Where restores go, as a role that policies bind."""
    return Database(replicated.primary.host, replicated.primary.port, "postgres", "owner", PASSWORD)


@pytest.fixture
def point(secured: Database, s3: Any) -> BackupRecord:
    return dump_to_s3(secured, s3, "backups", f"{secured.name}/point.dump").record


def orders(database: Database) -> tuple[Any, ...] | None:
    with database.connect() as connection:
        return connection.execute("SELECT count(*), sum(total) FROM orders").fetchone()


def test_an_owner_on_whom_row_security_is_forced_gets_no_backup_of_some_rows(database: Database, s3: Any) -> None:
    with database.connect() as connection:
        connection.execute(FORCED.encode())
        connection.execute('CREATE TABLE "Odd one" (id int)')
        connection.execute('ALTER TABLE "Odd one" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY')
    with pytest.raises(DumpFailed, match='hides rows of "Odd one", orders from owner: who backs up needs BYPASSRLS'):
        dump_to_s3(database, s3, "backups", f"{database.name}/some.dump")
    assert "Contents" not in s3.list_objects_v2(Bucket="backups", Prefix=f"{database.name}/")


def test_no_data_is_moved_where_policies_hide_rows(database: Database) -> None:
    move = {"table": "orders", "columns": {"twice": "total * 2"}, "add": {"twice": "numeric"}}
    with database.connect() as connection:
        connection.execute(FORCED.encode())
    with pytest.raises(NotPossible, match="row security hides rows from this role"):
        Bench(database, move).shape()


def test_an_owner_on_whom_it_is_not_forced_sees_all_rows(database: Database, s3: Any) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id < 10)")
    assert dump_to_s3(database, s3, "backups", f"{database.name}/all.dump").record.counts["orders"] == 900


def test_all_rows_come_back_where_the_restoring_role_is_bound_by_policies(
    secured: Database, elsewhere: Database, point: BackupRecord, s3: Any
) -> None:
    assert point.counts["orders"] == 900
    assert point.digests.keys() == point.counts.keys()
    found = prove_restore(
        "restore_test", point, s3, server=elsewhere, production=secured, scratch=f"{secured.name}_proved",
        timeout_seconds=600,
    )  # fmt: skip
    assert found.passed, found.reason
    assert "2101 rows in 4 tables came back, each table with its digest" in found.reason
    assert "policy public orders few" in found.reason
    assert "row security public orders" in found.reason


def test_entries_are_known_by_their_kind_whatever_their_schema_is_called(
    secured: Database, elsewhere: Database, s3: Any
) -> None:
    with secured.connect() as connection:
        connection.execute('CREATE SCHEMA "APP"; CREATE TABLE "APP"."ONE" AS SELECT 1 AS n')
        connection.execute('ALTER TABLE "APP"."ONE" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY')
        connection.execute('CREATE POLICY "P" ON "APP"."ONE" TO seer USING (true)')  # a role that is not there
    record = dump_to_s3(secured, s3, "backups", f"{secured.name}/capitals.dump").record
    with scratch_database(elsewhere, f"{secured.name}_capitals") as target:
        assert restore(s3, record, target).counts["APP.ONE"] == 1


def mended(
    secured: Database, elsewhere: Database, point: BackupRecord, s3: Any, limits: StatementLimits, up: str
) -> dict[str, Repaired]:
    release = bundle(m1=up)
    runner.apply(secured, release, limits)
    done = repair(secured, elsewhere, f"{secured.name}_point", s3, point, release.scripts, limits)
    return {table.name: table for table in done}


def test_rows_that_a_policy_hides_are_repaired_and_the_policy_stays(
    secured: Database, elsewhere: Database, point: BackupRecord, s3: Any, limits: StatementLimits
) -> None:
    before = orders(secured)
    up = "DELETE FROM lines; UPDATE orders SET total = 1 WHERE id < 100; DELETE FROM orders WHERE id > 500"
    done = mended(secured, elsewhere, point, s3, limits, up)
    assert (done["orders"].inserted, done["orders"].updated, done["lines"].inserted) == (400, 98, 900)
    assert orders(secured) == before
    with secured.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_policy WHERE polname = 'few'").fetchone() == (1,)
        assert catalog.secured(connection, "orders")


def test_a_table_that_is_made_again_without_its_policies_shows_nobody_a_row(
    servers: Servers, secured: Database, elsewhere: Database, point: BackupRecord, s3: Any, limits: StatementLimits
) -> None:
    done = mended(secured, elsewhere, point, s3, limits, "DROP TABLE lines, orders")
    assert (done["orders"].inserted, done["lines"].inserted) == (900, 900)
    assert "it was made again without its policies" in done["orders"].left
    assert done["lines"].left == ""
    with secured.connect() as connection:
        connection.execute("GRANT SELECT ON orders, lines TO PUBLIC")
    with servers.owned(secured.name).connect() as guest:
        guest.execute("SET row_security = on")
        assert guest.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        assert guest.execute("SELECT count(*) FROM lines").fetchone() == (900,)


def test_a_table_whose_policies_bind_who_repairs_is_named_and_the_others_are_mended(
    database: Database, s3: Any, limits: StatementLimits
) -> None:
    record = dump_to_s3(database, s3, "backups", f"{database.name}/before.dump").record
    release = bundle(m1=f"DELETE FROM lines WHERE order_id > 500; {FORCED}")
    runner.apply(database, release, limits)
    done = repair(database, database, f"{database.name}_point", s3, record, release.scripts, limits)
    (named,) = [table for table in done if table.left]
    assert (named.name, 'row-level security policy for table "orders"' in named.left) == ("orders", True)
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (900,)
