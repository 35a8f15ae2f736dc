"""Migrations that fail, at every one of their statements and for every reason: nothing of them may be left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from handover.adapters.postgres import Database
from handover.database import runner
from handover.database.migrations import Bundle
from handover.database.rehearsal import contents
from sandbox.database_faults.clients import clients
from sandbox.database_faults.found import Found, judged
from sandbox.database_faults.place import Place, World
from sandbox.database_faults.works import HISTORIES, LIMITS, history

MAKES = (
    "ALTER TABLE orders ADD COLUMN channel text NOT NULL DEFAULT 'web'", "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE TABLE moods (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood mood)",
    "CREATE INDEX moods_mood ON moods (mood)", "CREATE SCHEMA more", "CREATE SEQUENCE more.numbers",
    "CREATE FUNCTION more.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE VIEW more.open AS SELECT id FROM orders",
    "CREATE TRIGGER also AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION quiet()",
    "COMMENT ON TABLE orders IS 'changed'", "UPDATE customers SET name = 'Somebody' WHERE id % 3 = 0",
    "DELETE FROM lines WHERE order_id < 100", "INSERT INTO days VALUES ('2026-06-01', 1)",
    "ALTER TABLE customers DROP COLUMN name", "DROP TABLE lines",
)  # fmt: skip
"""An object of each kind, and rows of each kind of change."""


@dataclass(frozen=True)
class Reason:
    """SQL that fails; ``limits``: with which it does."""

    what: str
    sql: str
    limits: runner.StatementLimits = LIMITS


REASONS = (
    Reason("an error", "SELECT 1 / 0"),
    Reason("the end of its session", "SELECT pg_terminate_backend(pg_backend_pid())"),
    Reason("statement time-out", "SELECT pg_sleep(600)", replace(LIMITS, statement_timeout=0.5)),
    Reason("a lock that nobody gives up", "LOCK TABLE kept", replace(LIMITS, lock_retries=2)),
)
OTHERS = {
    "at its COMMIT": "CREATE TABLE two (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO two VALUES (1), (1)",
    "a concurrent index": "CREATE UNIQUE INDEX CONCURRENTLY one_status ON orders (status)",
    "a second migration": "SELECT no_such_function()",
}  # fmt: skip


def failing(place: Place, say: Callable[[str], None] = lambda _: None, every: int = 1) -> Iterator[Found]:
    """With clients meanwhile. ``every``: each so many-th statement fails."""
    for what, (scripts, limits) in cases(REASONS, every).items():
        say(f"failing: {what}")
        with place.world() as world, clients(world.database) as waited:
            came_to = failed(world, what, scripts, limits)
        wrong = came_to.wrong + waited.failures
        yield replace(came_to, stall_ms=waited.longest_ms, noise_ms=waited.noise_ms, wrong=wrong)


def cases(reasons: Sequence[Reason], every: int) -> dict[str, tuple[list[str], runner.StatementLimits]]:
    found = {
        f"statement by statement: {reason.what}": (
            [_failing_at(number, reason.sql) for number in range(0, len(MAKES) + 1, every)], reason.limits,
        )
        for reason in reasons
    }  # fmt: skip
    return found | {what: ([script], LIMITS) for what, script in OTHERS.items()}


def _failing_at(number: int, sql: str) -> str:
    return "; ".join((*MAKES[:number], sql))


def failed(world: World, step: str, scripts: list[str], limits: runner.StatementLimits) -> Found:
    """Each script by itself."""
    with kept(world.database):
        runner.apply(world.database, Bundle.from_files({}), LIMITS)  # there is a ledger
        before, wrongs = contents.look(world.database, HISTORIES), list[list[str]]()
        for number, script in enumerate(scripts):
            wrongs.append(_tried(world.database, f"m{number}", script, limits))
            wrongs[-1] += contents.differences(before, contents.look(world.database, HISTORIES))
        if left := {name: value for name, value in history(world).items() if value}:
            wrongs.append([f"{left}"])
    return judged("failing migration", step, "no object and no row of it is there", wrongs)


def _tried(database: Database, name: str, script: str, limits: runner.StatementLimits) -> list[str]:
    try:
        runner.apply(database, Bundle.from_files({f"{name}/migration.sql": script.encode()}), limits)
    except runner.MigrationFailed:
        return []
    return [f"{script} does not fail"]


@contextmanager
def kept(database: Database) -> Iterator[None]:
    """Somebody keeps a table for the whole time."""
    with database.connect() as connection:
        connection.execute("CREATE TABLE kept ()")
        connection.execute("BEGIN; LOCK TABLE kept IN ACCESS SHARE MODE")
        yield
