"""How far PostgreSQL is with what takes long, in the log and on record."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import ledger, progress
from handover.database.progress import Progress, Stage, share
from handover.database.runner import StatementLimits, apply
from tests.database.conftest import bundle
from tests.support.until import until

WAITING = Stage("create index", "orders", "waiting for writers before build")


def test_what_a_migration_is_at_is_told_with_its_table(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """An index that waits for a writer, for as long as the test wants."""
    caplog.set_level(logging.INFO, logger=progress.__name__)
    seen = Progress(database, ledger.holders)
    migration = bundle(m1="CREATE INDEX CONCURRENTLY o ON orders (status)")
    applying = threading.Thread(target=apply, args=(database, migration, StatementLimits()))
    with database.connect() as connection, database.connect(autocommit=False) as writer:
        asked = progress.query(connection)
        assert asked is not None
        writer.execute("UPDATE orders SET status = 'x' WHERE id = 1")
        applying.start()
        try:

            def waits() -> bool:
                seen.look(connection, asked)
                return WAITING in seen.seconds

            until(waits, "the index to wait")
            seen.look(connection, asked)
        finally:
            writer.rollback()
            applying.join()
        seen.look(connection, asked)
    assert "create index of orders, waiting for writers before build: 0%" in caplog.messages
    (measured,) = [one for one in seen.measurements() if one.what == str(WAITING)]
    assert measured.unit == "s"
    assert (measured.value or 0) >= 0


def test_other_sessions_are_none_of_ours(database: Database) -> None:
    seen = Progress(database, lambda _connection: [])
    with database.connect() as connection:
        asked = progress.query(connection)
        assert asked is not None
        seen.look(connection, asked)
        assert connection.execute(asked, {"pids": [1]}).fetchall() == []
    assert seen.measurements() == ()


def test_every_view_that_there_is_can_be_read(connection: psycopg.Connection) -> None:
    asked = progress.query(connection)
    assert asked is not None
    text = asked.as_string(connection)
    for command in ("analyze", "cluster", "copy", "create index", "vacuum"):
        assert f"'{command}'" in text


@pytest.mark.parametrize(
    ("columns", "done"),
    [
        ({"blocks_done": 25, "blocks_total": 100, "tuples_total": 0, "tuples_done": 0}, 0.25),
        ({"heap_blks_scanned": 3, "heap_blks_total": 4}, 0.75),
        ({"bytes_processed": 30, "bytes_total": 20}, 1.0),
        ({"lockers_done": 0, "lockers_total": 2}, 0.0),
        ({"tuples_done": None, "tuples_total": 7}, 0.0),
        ({"phase": "initializing", "bytes_total": 0}, None),
    ],
)
def test_the_share_is_of_whatever_postgresql_counts(columns: dict[str, int], done: float | None) -> None:
    assert share(columns) == done


def test_a_server_that_does_not_answer_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = Progress(Database("127.0.0.1", 1, "nobody", "nobody"), lambda _connection: [])
    nowhere._watch()
    assert any("is not known any more" in message for message in caplog.messages)
    assert nowhere.measurements() == ()
