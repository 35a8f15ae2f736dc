"""Runs migrations on a live database: short locks, all or nothing, safe to run again (plan 3.2, method 2).

One migration is one query in one transaction, and that transaction also writes its ``finished_at``: killed at any
moment, it has happened or it has not. A statement that waits for a lock makes everybody behind it wait, so it waits
only ``lock_timeout`` and tries again later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from handover import clock
from handover.adapters.postgres import Database
from handover.database import catalog, ledger, migrations
from handover.database.migrations import Bundle, Script

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.migration import MigrationRules

log = logging.getLogger(__name__)
LOCK_NOT_AVAILABLE, DEADLOCK, CANCELED = "55P03", "40P01", "57014"
OTHER_RUNNER_SECONDS = 60.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0


@dataclass(frozen=True)
class StatementLimits:
    """How long things may take (seconds), and how often to try for a lock."""

    lock_timeout: float = 0.5
    statement_timeout: float = 900
    lock_retries: int = 20
    other_runner: float = OTHER_RUNNER_SECONDS

    @classmethod
    def of(cls, migration: MigrationRules) -> StatementLimits:
        """Those of the plan."""
        return cls(
            lock_timeout=migration.lock_timeout_seconds,
            statement_timeout=migration.statement_timeout_seconds,
            lock_retries=migration.lock_retries,
        )


@dataclass(frozen=True)
class Applied:
    """What a run did. ``lock_waits``: how often a lock was not to be had in time."""

    names: tuple[str, ...]
    seconds: float
    lock_waits: int


class MigrationRefused(Exception):
    """The migrations may not run; nothing was changed."""


class MigrationFailed(Exception):
    """A migration failed; what it did is undone unless the text says otherwise.

    ``applied``: names of those before it, which stay.
    """

    def __init__(self, message: str, applied: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.applied = applied


class StatementFailed(Exception):
    """PostgreSQL refused a statement of a script."""

    def __init__(self, sqlstate: str, message: str, number: int) -> None:
        super().__init__(message)
        self.sqlstate, self.number = sqlstate, number

    @property
    def passing(self) -> bool:
        """Whether trying again may help."""
        return self.sqlstate in (LOCK_NOT_AVAILABLE, DEADLOCK)


def refusals(bundle: Bundle, rows: list[migrations.Row]) -> list[str]:
    """Why these migrations must not run on a database with this history."""
    return [
        *migrations.stuck(rows, (ledger.ATOMIC_MARK,)),
        *migrations.drift(bundle, rows),
        *migrations.unfit(migrations.pending(bundle, rows)),
    ]


class Stop(Protocol):
    """What may stop a migration, such as `handover.database.guard.Guard`."""

    def breach(self) -> str | None:
        """Why it has to stop, or None; asked before every commit and every new try."""

    def cancellable(self, connection: Connection[Any]) -> AbstractContextManager[None]:
        """While the body runs, what runs on this connection may be cancelled; and nothing else ever."""


class Never:
    def breach(self) -> str | None:
        return None

    def cancellable(self, connection: Connection[Any]) -> AbstractContextManager[None]:
        return nullcontext()


def apply(database: Database, bundle: Bundle, limits: StatementLimits, stop: Stop | None = None) -> Applied:
    """Applies what is pending, oldest first, under Prisma's lock; another runner is waited for.

    Raises `MigrationRefused`, `MigrationFailed`, `handover.database.ledger.Busy` or
    `handover.database.ledger.PooledSession`.
    """
    stop = stop or Never()
    begin, done, waits = clock.monotonic(), list[str](), 0
    with database.connect() as connection, ledger.locked(connection, limits.other_runner):
        ledger.create(connection)
        for name in ledger.forget_begun(connection):
            log.warning("%s was begun by a run that was killed: PostgreSQL has undone it, it runs again", name)
        rows = ledger.rows(connection)
        if problems := refusals(bundle, rows):
            raise MigrationRefused("; ".join(problems))
        for script in migrations.pending(bundle, rows):
            try:
                waits += _run(connection, script, limits, stop)
            except MigrationFailed as failure:
                raise MigrationFailed(str(failure), tuple(done)) from failure.__cause__
            done.append(script.name)
            log.info("%s is applied", script.name)
    return Applied(tuple(done), clock.monotonic() - begin, waits)


def _run(connection: Connection[Any], script: Script, limits: StatementLimits, stop: Stop) -> int:
    """One migration with its row; gives how often it waited for a lock in vain."""
    key = ledger.begin(connection, script)
    bad_indices = set(catalog.invalid_indices(connection))
    attempt = _in_transaction if script.transactional else _alone
    try:
        return patiently(lambda: attempt(connection, script.forward.sent, key, limits, stop), limits, stop.breach)
    except StatementFailed as error:
        reason = (stop.breach() if error.sqlstate == CANCELED else None) or str(error)
        where = script.statements[error.number - 1][:120] if 0 < error.number <= len(script.statements) else ""
        text = f"{script.name}: {f'statement {error.number} ({where}): ' if where else ''}{reason}"
        left = _clean(connection, bad_indices) if not script.transactional else []
        ledger.fail(connection, key, text, nothing_left=not left)
        raise MigrationFailed(f"{text}; left behind: {', '.join(left)}" if left else text) from error


def patiently(
    work: Callable[[], None], limits: StatementLimits, breach: Callable[[], str | None] = lambda: None
) -> int:
    """Does it again while a lock is not to be had, with growing random pauses; gives how often that happened."""
    from tenacity import Retrying, retry_if_exception, wait_exponential_jitter

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, StatementFailed) and error.passing),
        stop=lambda state: state.attempt_number >= limits.lock_retries or breach() is not None,
        wait=wait_exponential_jitter(initial=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS, jitter=0.2),
        before_sleep=lambda state: log.info("try %s: a lock was not to be had in time", state.attempt_number),
        reraise=True,
    )
    retrying(work)
    return int(retrying.statistics.get("attempt_number", 1)) - 1


def _in_transaction(connection: Connection[Any], script: bytes, key: str, limits: StatementLimits, stop: Stop) -> None:
    with connection.transaction():
        set_limits(connection, limits)
        with stop.cancellable(connection):
            execute_script(connection, script)
        if reason := stop.breach():
            raise StatementFailed(CANCELED, reason, 0)
        ledger.finish(connection, key)


def _alone(connection: Connection[Any], script: bytes, key: str, limits: StatementLimits, stop: Stop) -> None:
    """For a statement that PostgreSQL takes only outside a transaction, such as CREATE INDEX CONCURRENTLY."""
    set_limits(connection, limits, local=False)
    before = set(catalog.invalid_indices(connection))
    try:
        with stop.cancellable(connection):
            execute_script(connection, script)
    except StatementFailed:
        _clean(connection, before)
        raise
    ledger.finish(connection, key)


def _clean(connection: Connection[Any], before: set[str]) -> list[str]:
    """Drops invalid indices that a broken CREATE INDEX CONCURRENTLY has left; gives those that stay."""
    from psycopg import Error, sql

    for name in set(catalog.invalid_indices(connection)) - before:
        try:
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(name)))
        except Error as error:
            log.warning("the invalid index %s cannot be dropped: %s", name, error.sqlstate)
    return sorted(set(catalog.invalid_indices(connection)) - before)


def set_limits(connection: Connection[Any], limits: StatementLimits, *, local: bool = True) -> None:
    """lock_timeout and statement_timeout of this transaction, or of the session."""
    for name, seconds in (("lock_timeout", limits.lock_timeout), ("statement_timeout", limits.statement_timeout)):
        connection.execute("SELECT set_config(%s, %s, %s)", (name, f"{int(seconds * 1000)}ms", local))


def execute_script(connection: Connection[Any], script: bytes) -> None:
    """Sends a script as one query. Raises `StatementFailed` with the number of the statement, beginning with 1.

    The message never has PostgreSQL's DETAIL, which quotes rows.
    """
    from psycopg import generators, pq

    connection.pgconn.send_query(script)
    results = connection.wait(generators.execute(connection.pgconn))
    last = results[-1]
    if last.status != pq.ExecStatus.FATAL_ERROR:
        return
    state = last.error_field(pq.DiagnosticField.SQLSTATE) or b""
    message = last.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or last.error_message
    raise StatementFailed(state.decode(), message.decode("utf-8", "replace").strip(), len(results))
