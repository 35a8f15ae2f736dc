"""The table ``public._prisma_migrations``, kept exactly as Prisma keeps it, so that both may follow each other.

It is always named with its schema: no schema that comes first in some search path gets a second one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from handover.database.migrations import Row, Script

if TYPE_CHECKING:
    from psycopg import Connection

LOCK = 72707369
"""Prisma's advisory lock. It belongs to a session: PgBouncer in transaction mode would lose it."""
LOOK_SECONDS = 0.1
ATOMIC_MARK = "pms: runs in one transaction, which also writes finished_at"
"""Log of a migration that our runner has begun. A row that still has it left nothing behind: what it did and its
``finished_at`` are one transaction. Of anybody else's unfinished row that is not known."""
ALONE_MARK = "pms: runs outside a transaction, and what it does was not there before"
"""Log of one that PostgreSQL takes only outside a transaction. What it has left is looked up in the catalogue."""
OURS = (ATOMIC_MARK, ALONE_MARK)
UNDO_MARK = "pms: its down.sql runs outside a transaction, and what that does was not so before"
"""Log of a row beside the migration's own, which has to stay as the migration has written it."""

_TABLE = """
CREATE TABLE IF NOT EXISTS public._prisma_migrations (
    id                  varchar(36)  PRIMARY KEY NOT NULL,
    checksum            varchar(64)  NOT NULL,
    finished_at         timestamptz,
    migration_name      varchar(255) NOT NULL,
    logs                text,
    rolled_back_at      timestamptz,
    started_at          timestamptz  NOT NULL DEFAULT now(),
    applied_steps_count integer      NOT NULL DEFAULT 0
)
"""
_ROWS = """
SELECT id, migration_name, checksum, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, logs, xmin::text
FROM public._prisma_migrations ORDER BY started_at, migration_name
"""
_OBSTACLES = """
SELECT problem FROM (VALUES
    (pg_is_in_recovery(), 'this server is a standby and takes no changes: is it the right primary?'),
    ((SELECT s.reset_val = 'on' FROM pg_settings s WHERE s.name = 'default_transaction_read_only'),
     'somebody has made it read-only (default_transaction_read_only)'),
    (to_regnamespace('public') IS NULL, 'it has no schema public'),
    (to_regclass('public._prisma_migrations') IS NULL AND NOT has_schema_privilege(to_regnamespace('public'), 'CREATE'),
     format('%I may make no table in the schema public', current_user)),
    ((SELECT NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
              AND has_table_privilege(c.oid, 'UPDATE'))
      FROM pg_class c WHERE c.oid = to_regclass('public._prisma_migrations')),
     format('%I may not read and write public._prisma_migrations', current_user))
) AS o (wrong, problem) WHERE wrong
"""
_OTHERS = """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = '_prisma_migrations' AND c.relkind IN ('r', 'p') AND n.nspname <> 'public' AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1
"""
_HOLDER = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND classid = 0 AND objid = %s AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Busy(Exception):
    """Somebody else migrates this database and does not end."""


class PooledSession(Exception):
    """The session is not ours alone, so the lock protects nothing."""


@contextmanager
def locked(connection: Connection[Any], wait_seconds: float) -> Iterator[None]:
    """Holds Prisma's lock; the session's lock_timeout is changed. Raises `Busy` or `PooledSession`.

    It is asked for again and again: a session that waits for it within a statement has a snapshot, for whose end a
    CREATE INDEX CONCURRENTLY of the holder would wait.
    """
    from psycopg import Error
    from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed

    _set(connection, "lock_timeout", wait_seconds)
    asking = Retrying(
        retry=retry_if_not_result(bool), stop=stop_after_delay(wait_seconds), wait=wait_fixed(LOOK_SECONDS),
        retry_error_callback=lambda _state: False,
    )  # fmt: skip
    if not asking(_taken, connection):
        raise Busy(f"another migration holds the lock {LOCK} for more than {wait_seconds:g} s")
    try:
        if connection.info.backend_pid not in holders(connection):
            raise PooledSession("the advisory lock is not held by this session: connect directly, not through a pool")
        yield
    finally:
        with suppress(Error):  # then the session is at its end, and the lock with it
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _taken(connection: Connection[Any]) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() == (True,)


def holders(connection: Connection[Any]) -> list[int]:
    """Backends that hold Prisma's lock now."""
    return [row[0] for row in connection.execute(_HOLDER, (LOCK,))]


def create(connection: Connection[Any]) -> None:
    """Unless it is there: IF NOT EXISTS asks for the right to make one even so."""
    if connection.execute("SELECT to_regclass('public._prisma_migrations')").fetchone() == (None,):
        connection.execute(_TABLE)


def rows(connection: Connection[Any]) -> list[Row]:
    """Every row, oldest first; none when the table does not exist yet."""
    found = connection.execute("SELECT to_regclass('public._prisma_migrations') IS NOT NULL").fetchone()
    if not found or not found[0]:
        return []
    return [Row(*row) for row in connection.execute(_ROWS)]


def obstacles(connection: Connection[Any], pending: Sequence[Script] = ()) -> list[str]:
    """Why nothing can be migrated on this database, whatever the migrations are: a standby, no rights, or migrations of
    ours that are applied already according to the table of another schema.
    """
    from psycopg import sql

    found = [row[0] for row in connection.execute(_OBSTACLES)]
    for (schema,) in connection.execute(_OTHERS).fetchall():
        query = sql.SQL(
            "SELECT migration_name, checksum FROM {} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
        ).format(sql.Identifier(schema, "_prisma_migrations"))
        done = dict(connection.execute(query).fetchall())
        same = [script.name for script in pending if script.name in done and script.matches(done[script.name])]
        if same:
            found.append(
                f"{', '.join(same)} not applied in the schema public, but in {schema} (its own _prisma_migrations): "
                "which one is the service's?"
            )
    return found


def begin(connection: Connection[Any], script: Script, mark: str | None = ATOMIC_MARK) -> str:
    """Adds the row of a migration that is about to run; gives its id. ``mark``: one of `OURS`, if it is true."""
    key = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO public._prisma_migrations (id, checksum, migration_name, logs) VALUES (%s, %s, %s, %s)",
        (key, script.checksum, script.name, mark),
    )
    return key


def finish(connection: Connection[Any], key: str) -> bool:
    """Writes that it is applied; gives whether its row was there to write it into."""
    done = connection.execute(
        "UPDATE public._prisma_migrations SET finished_at = clock_timestamp(), applied_steps_count = 1, logs = NULL "
        "WHERE id = %s",
        (key,),
    )
    return done.rowcount == 1


def finished(connection: Connection[Any], key: str) -> bool:
    """Whether a row's migration is applied."""
    row = connection.execute(
        "SELECT finished_at IS NOT NULL FROM public._prisma_migrations WHERE id = %s", (key,)
    ).fetchone()
    return bool(row and row[0])


def fail(connection: Connection[Any], key: str, reason: str, *, nothing_left: bool) -> None:
    """Writes why it failed; one that left nothing behind counts as rolled back and does not block the next release."""
    connection.execute(
        "UPDATE public._prisma_migrations SET logs = %s, rolled_back_at = CASE WHEN %s THEN now() END WHERE id = %s",
        (reason, nothing_left, key),
    )


def roll_back(connection: Connection[Any], name: str) -> None:
    """Marks a migration as undone, so that it may be applied again.

    ``prisma migrate resolve --rolled-back`` refuses this for an applied one, and undoes no SQL in any case.
    """
    connection.execute(
        "UPDATE public._prisma_migrations SET rolled_back_at = now() "
        "WHERE migration_name = %s AND rolled_back_at IS NULL",
        (name,),
    )


def begin_undo(connection: Connection[Any], script: Script) -> None:
    """Writes down that a ``down.sql`` is about to run that PostgreSQL takes only outside a transaction."""
    connection.execute(
        "INSERT INTO public._prisma_migrations (id, checksum, migration_name, logs, rolled_back_at)"
        " VALUES (%s, %s, %s, %s, now())",
        (str(uuid.uuid4()), script.checksum, script.name, UNDO_MARK),
    )


def undo_begun(connection: Connection[Any], name: str) -> bool:
    """Whether that was written since the migration was applied, so that what is so now may be of a killed run."""
    found = [row for row in rows(connection) if row.name == name and (row.applied or row.marked([UNDO_MARK]))]
    return bool(found) and not found[-1].applied


def forget_begun(connection: Connection[Any]) -> list[str]:
    """Marks what a killed run of ours left unfinished as rolled back, which PostgreSQL has done. Hold the lock."""
    found = connection.execute(
        "UPDATE public._prisma_migrations SET rolled_back_at = now() "
        "WHERE finished_at IS NULL AND rolled_back_at IS NULL AND logs = %s RETURNING migration_name",
        (ATOMIC_MARK,),
    )
    return [row[0] for row in found]


def _set(connection: Connection[Any], name: str, seconds: float) -> None:
    connection.execute("SELECT set_config(%s, %s, false)", (name, f"{int(seconds * 1000)}ms"))
