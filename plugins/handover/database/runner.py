"""Runs migrations on a live database: short locks, all or nothing, safe to run again (plan 3.2, method 2).

One migration is one query in one transaction, and that transaction also writes its ``finished_at``: killed at any
moment, it has happened or it has not. A statement that waits for a lock makes everybody behind it wait, so it waits
only ``lock_timeout`` and tries again later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from handover import clock
from handover.adapters import postgres
from handover.adapters.postgres import Database, cause, forget
from handover.database import alone, blockers, ledger, migrations, statements
from handover.database.alone import State
from handover.database.migrations import Bundle, Row, Script, SqlFile
from handover.database.quoting import without_texts
from handover.database.statements import Statement

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.migration import MigrationRules

log = logging.getLogger(__name__)
LOCK_NOT_AVAILABLE, DEADLOCK, CANCELED = "55P03", "40P01", "57014"
NOT_THIS_ENCODING = ("22P05", "22021")
OTHER_RUNNER_SECONDS = 60.0
IDLE_SECONDS = 15
"""A transaction of ours that says nothing for so long has nobody behind it, and its locks keep everybody waiting."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0


@dataclass(frozen=True)
class StatementLimits:
    """How long things may take (seconds), and how often to try for a lock."""

    lock_timeout: float = 0.1
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


def refusals(bundle: Bundle, rows: list[Row]) -> list[str]:
    """Why these migrations must not run on a database with this history."""
    known = [row for row in rows if not (row.marked([ledger.ALONE_MARK]) and _half(bundle, row))]
    return [
        *migrations.stuck(known, (ledger.ATOMIC_MARK,)),
        *migrations.drift(bundle, rows),
        *migrations.unfit(migrations.pending(bundle, rows)),
    ]


def _half(bundle: Bundle, row: Row) -> Script | None:
    """The script of an open row of ours that may be half done, if it is the one that was run."""
    script = bundle.script(row.name)
    return script if script and row.open and script.forward.alone and script.matches(row.checksum) else None


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
    import psycopg

    stop = stop or Never()
    begin, done, waits = clock.monotonic(), list[str](), 0
    with database.connect() as connection, ledger.locked(connection, limits.other_runner):
        try:
            for script in _prepared(connection, bundle, limits):
                waits += _run(database, connection, script, limits, stop)
                done.append(script.name)
                log.info("%s is applied", script.name)
        except MigrationFailed as failure:
            raise MigrationFailed(str(failure), tuple(done)) from failure.__cause__
        except psycopg.Error as error:
            raise MigrationFailed(f"between two statements: {cause(error)}", tuple(done)) from None
    return Applied(tuple(done), clock.monotonic() - begin, waits)


def _prepared(connection: Connection[Any], bundle: Bundle, limits: StatementLimits) -> tuple[Script, ...]:
    """What is pending, once what killed runs have left is settled. Raises `MigrationRefused`."""
    if problems := ledger.obstacles(connection, bundle.scripts):
        raise MigrationRefused("; ".join(problems))
    ledger.create(connection)
    settle(connection, bundle, limits)
    rows = ledger.rows(connection)
    pending = migrations.pending(bundle, rows)
    if problems := refusals(bundle, rows):
        raise MigrationRefused("; ".join(problems))
    return pending


def settle(connection: Connection[Any], bundle: Bundle, limits: StatementLimits) -> None:
    """Finds out what killed runs of ours have left: it goes on, or is taken back. Hold the lock.

    Raises `MigrationFailed` when neither can be done now.
    """
    for name in ledger.forget_begun(connection):
        log.warning("%s was begun by a run that was killed: PostgreSQL has undone it", name)
    for row in ledger.rows(connection):
        if row.marked([ledger.ALONE_MARK]) and (script := _half(bundle, row)):
            assert script.forward.alone is not None
            _settle_one(connection, row, script.forward.alone, limits)


def _settle_one(connection: Connection[Any], row: Row, statement: Statement, limits: StatementLimits) -> None:
    try:
        found = alone.state(connection, statement)
        if found is State.HALF and statement.detaches:
            patiently(lambda: _go_on(connection, statement, limits), limits)
            found = alone.state(connection, statement)
        left = [] if found is State.DONE else alone.take_back(connection, statement, set())
    except StatementFailed as error:
        raise MigrationFailed(f"{row.name} is half done and cannot go on: {error}") from error
    if left:
        raise MigrationFailed(f"{row.name} is half done, and this stays: {', '.join(left)}")
    log.warning("%s was begun by a run that was killed: it is %s", row.name, found)
    forget(connection)
    if found is State.DONE:
        ledger.finish(connection, row.id)
    else:
        ledger.fail(connection, row.id, "the run was killed, nothing is left of it", nothing_left=True)


def _go_on(connection: Connection[Any], statement: Statement, limits: StatementLimits) -> None:
    with converted():
        set_limits(connection, limits, local=False)
        alone.go_on(connection, statement)


def _run(database: Database, connection: Connection[Any], script: Script, limits: StatementLimits, stop: Stop) -> int:
    """One migration with its row; gives how often it waited for a lock in vain."""
    one = script.forward.alone
    before = _before(connection, script, one) if one else set()
    key = ledger.begin(connection, script, _mark(connection, one))

    def attempt() -> None:
        with converted():
            blockers.make_way(connection, files=[script.forward])
            if held := blockers.blockers(connection, [script.forward]):
                raise StatementFailed(LOCK_NOT_AVAILABLE, "; ".join(held), 0)  # asked for, others would wait behind us
            if one:
                run_alone(connection, script.forward, one, before, limits, stop)
                ledger.finish(connection, key)
            else:
                _in_transaction(connection, script, key, limits, stop)
            forget(connection)

    try:
        return patiently(attempt, limits, stop.breach)
    except StatementFailed as error:
        raise _failed(database, connection, script, key, before, limits, _told(script, error, stop)) from error


def _told(script: Script, error: StatementFailed, stop: Stop) -> str:
    reason = (stop.breach() if error.sqlstate == CANCELED else None) or str(error)
    named = 0 < error.number <= len(script.statements)
    where = without_texts(script.statements[error.number - 1], 120) if named else ""
    return f"{script.name}: {f'statement {error.number} ({where}): ' if where else ''}{reason}"


def _before(connection: Connection[Any], script: Script, statement: Statement) -> set[int]:
    """Indices that are not valid now. Raises `MigrationFailed` when the one to be made is among them."""
    if statement.words[0] == "CREATE" and alone.state(connection, statement) is State.HALF:
        raise MigrationFailed(f"{script.name}: the index {statement.index} is there already and is not valid: drop it")
    return set(alone.invalid(connection, statement))


def _mark(connection: Connection[Any], statement: Statement | None) -> str | None:
    if statement is None:
        return ledger.ATOMIC_MARK
    return ledger.ALONE_MARK if alone.state(connection, statement) in (State.NOT, State.HALF) else None


def _failed(
    database: Database, connection: Connection[Any], script: Script, key: str, before: set[int],
    limits: StatementLimits, text: str,
) -> MigrationFailed:  # fmt: skip
    """Writes down that it failed and what is left of it, in a new session where the old one is gone."""
    import psycopg

    try:
        if not connection.closed:
            return _written(connection, script, key, before, text)
        with database.connect() as again, ledger.locked(again, limits.other_runner):
            return _written(again, script, key, before, text)
    except (psycopg.Error, ledger.Busy, ledger.PooledSession) as error:
        why = cause(error) if isinstance(error, psycopg.Error) else str(error)
        return MigrationFailed(f"{text}; what is left of it is not known before the next try: {why}")


def _written(connection: Connection[Any], script: Script, key: str, before: set[int], text: str) -> MigrationFailed:
    if ledger.finished(connection, key):
        return MigrationFailed(f"{text}; the database says that it is applied all the same")
    forget(connection)
    one = script.forward.alone
    left = alone.take_back(connection, one, before) if one else []
    if left:
        text += f"; left behind: {', '.join(left)}"
    ledger.fail(connection, key, f"{ledger.ALONE_MARK}\n{text}" if left else text, nothing_left=not left)
    return MigrationFailed(text)


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


def _in_transaction(connection: Connection[Any], script: Script, key: str, limits: StatementLimits, stop: Stop) -> None:
    with transaction(connection):
        set_limits(connection, limits)
        with stop.cancellable(connection):
            execute_script(connection, script.forward.sent)
        if reason := stop.breach():
            raise StatementFailed(CANCELED, reason, 0)
        own_again(connection, limits)
        if not ledger.finish(connection, key):
            raise StatementFailed("", "it has taken its own row out of _prisma_migrations", 0)


@contextmanager
def transaction(connection: Connection[Any]) -> Iterator[None]:
    """A transaction whose end, too, fails as a statement does. Raises `StatementFailed`."""
    with converted(), connection.transaction():
        yield


@contextmanager
def converted() -> Iterator[None]:
    """Whatever PostgreSQL says meanwhile, also at a COMMIT, is a `StatementFailed` without the contents of rows."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise StatementFailed(error.sqlstate or "", cause(error), 0) from None  # its text has DETAIL


def own_again(connection: Connection[Any], limits: StatementLimits) -> None:
    """Takes back, within its transaction, what a script has done to the session. Raises `StatementFailed`."""
    from psycopg.pq import TransactionStatus

    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise StatementFailed("", "it has ended the transaction it runs in", 0)
    postgres.settle(connection)
    set_limits(connection, limits)
    if connection.info.backend_pid not in ledger.holders(connection):
        raise StatementFailed("", "it has given up the lock of all migrations", 0)


def run_alone(
    connection: Connection[Any], file: SqlFile, statement: Statement, before: set[int], limits: StatementLimits,
    stop: Stop | None = None,
) -> None:  # fmt: skip
    """For a statement that PostgreSQL takes only outside a transaction, such as CREATE INDEX CONCURRENTLY.

    Its own word that it is done, or is not, counts only where the catalogue cannot tell. ``before``: numbers of indices
    that were not valid. Raises `StatementFailed`.
    """
    set_limits(connection, limits, local=False)
    if statement.concurrent:  # it waits for transactions, in no queue for a lock that others would wait behind
        connection.execute("SET lock_timeout = 0")
    begun, error = alone.state(connection, statement), None
    try:
        with (stop or Never()).cancellable(connection), converted():
            if not (begun is State.HALF and alone.go_on(connection, statement)):
                execute_script(connection, file.sent)
    except StatementFailed as failure:
        if connection.closed:
            raise
        error = failure
    found = alone.state(connection, statement)
    if error and error.passing and found is State.HALF and statement.detaches:
        raise error
    left = alone.take_back(connection, statement, before)
    if error is None:
        good = found in (State.DONE, None)
        error = StatementFailed("", f"it ended, and what it is for is {found}", 1)
    else:
        good = begun in (State.NOT, State.HALF) and alone.state(connection, statement) is State.DONE
    if left:  # another try would only meet what is left of this one
        raise StatementFailed("", str(error), error.number)
    if not good:
        raise error
    forget(connection)


def set_limits(connection: Connection[Any], limits: StatementLimits, *, local: bool = True) -> None:
    """How long this transaction may wait, work, and do nothing; or the session, outside of one."""
    for name, seconds in (
        ("lock_timeout", limits.lock_timeout), ("statement_timeout", limits.statement_timeout),
        ("idle_in_transaction_session_timeout", IDLE_SECONDS if local else 0),
    ):  # fmt: skip
        connection.execute("SELECT set_config(%s, %s, %s)", (name, f"{int(seconds * 1000)}ms", local))


def execute_script(connection: Connection[Any], script: bytes) -> None:
    """Sends a script as one query. Raises `StatementFailed` with the number of the statement, beginning with 1.

    The message never has PostgreSQL's DETAIL, which quotes rows.
    """
    from psycopg import errors, generators, pq

    with converted():
        connection.pgconn.send_query(script)
        results = connection.wait(generators.execute(connection.pgconn))
    if results[-1].status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
        connection.close()  # it waits for a client's rows, and nothing else could be said on it
        raise StatementFailed("", "COPY between the server and a client: there is no client", len(results))
    bad = [n for n, result in enumerate(results) if result.status == pq.ExecStatus.FATAL_ERROR]
    if not bad:
        return
    told = next((results[n] for n in bad if results[n].error_field(pq.DiagnosticField.SQLSTATE)), results[bad[0]])
    error = errors.error_from_result(told)
    number, place = bad[0] + 1, error.diag.statement_position
    if len(results) == 1 and (place or error.sqlstate in NOT_THIS_ENCODING):  # one answer for the script as a whole
        number = len(statements.read(script.decode()[: int(place or 0)]))
    raise StatementFailed(error.sqlstate or "", cause(error), number)
