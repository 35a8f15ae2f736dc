"""Looks on while a script runs on the copy: which locks, how long, what became of rows, and what clients would feel.

Locks are seen in samples, and once more at the end of the script's transaction, which holds all of them still. A lock
counts as held from the last sample without it to the first one after it: never less than it was.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database
from handover.database.rehearsal import relations
from handover.database.rehearsal.bystanders import APPLICATION, Bystander
from handover.database.rehearsal.relations import Relation
from handover.database.rehearsal.result import (
    ACCESS_EXCLUSIVE,
    HINDERING,
    LockHeld,
    ScriptRun,
    Stall,
    StallOf,
    TableChange,
    Way,
)

if TYPE_CHECKING:
    from psycopg import Connection

SAMPLE_SECONDS = 0.01
MAX_BYSTANDERS = 20
"""At once; of more tables the stall is what their locks say."""
WRITING = "RowExclusiveLock"
HARMLESS = ("AccessShareLock", "RowShareLock")
_LOCKS = f"""
SELECT l.relation, l.mode, l.granted FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid AND a.usesysid IS NOT NULL
WHERE l.locktype = 'relation' AND (l.mode NOT IN ('AccessShareLock', 'RowShareLock') OR NOT l.granted)
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (a.application_name <> '{APPLICATION}' OR NOT l.granted)
"""  # noqa: S608 - a name of ours
_ROWS = """
SELECT relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_xact_all_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
"""
_WAL = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint"
Held = tuple[int, str]
"""Number of a relation, and mode of a lock."""


@dataclass
class Holding:
    """Which locks are and were held, in samples. Times are seconds of `handover.clock.monotonic`."""

    begin: float
    open: dict[Held, float] = field(default_factory=dict)
    longest: dict[Held, float] = field(default_factory=dict)
    _last: float = 0.0

    def add(self, held: set[Held], asked: float, answered: float) -> set[Held]:
        """One sample; gives the locks that are new."""
        for one in self.open.keys() - held:
            self._close(one, answered)
        new = held - self.open.keys()
        self.open |= dict.fromkeys(new, self._last or self.begin)
        self._last = asked
        return new

    def end(self, at: float) -> None:
        for one in tuple(self.open):
            self._close(one, at)

    def _close(self, one: Held, at: float) -> None:
        self.longest[one] = max(self.longest.get(one, 0.0), at - self.open.pop(one))


class Look:
    """What is seen of one script; it is a `handover.database.runner.Stop` that stops nothing."""

    def __init__(self, database: Database, connection: Connection[Any], histories: Collection[str]) -> None:
        self._database, self._connection, self._histories = database, connection, histories
        self.known = relations.known(connection, histories)
        self.after: dict[int, Relation] = {}
        self.wal_bytes = -self._wal()
        self.holding = Holding(clock.monotonic())
        self.seconds = 0.0
        self.waiting: dict[str, int] = {}
        self.rows: dict[int, tuple[int, int, int]] = {}
        self.stalls: tuple[Stall, ...] = ()
        self._bystanders: dict[str, Bystander] = {}
        self._one_sample, self._over = threading.Lock(), threading.Event()
        self._failure: Exception | None = None

    def breach(self) -> str | None:
        return None

    @contextmanager
    def cancellable(self, connection: Connection[Any]) -> Iterator[None]:
        """Looks once more when a script has run and its transaction has not ended."""
        from psycopg.pq import TransactionStatus

        yield
        if connection.info.transaction_status is TransactionStatus.INTRANS:
            self._sample(connection)
            self.rows = {number: (new, changed, gone) for number, new, changed, gone in connection.execute(_ROWS)}

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Takes samples while the body runs. Raises psycopg's errors when it could not."""
        thread = threading.Thread(target=self._go_on, name="rehearsal-sampler", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end = clock.monotonic()
            self._over.set()
            thread.join()
            self.stalls = tuple(stall for one in self._bystanders.values() for stall in one.leave())
            self.holding.end(end)
        if self._failure:
            raise self._failure
        self.seconds = end - self.holding.begin
        self.wal_bytes += self._wal()
        self.after = relations.known(self._connection, self._histories)

    def _go_on(self) -> None:
        try:
            while not self._over.is_set():
                self._sample(self._connection)
                self._over.wait(SAMPLE_SECONDS)
        except Exception as error:  # to be raised where somebody waits for it
            self._failure = error

    def _sample(self, connection: Connection[Any]) -> None:
        with self._one_sample:
            asked = clock.monotonic()
            found = [
                (self.known[number], (number, mode), granted)
                for number, mode, granted in connection.execute(_LOCKS.encode())
                if number in self.known and not (granted and mode in HARMLESS)
            ]
            self.holding.add({held for _, held, granted in found if granted}, asked, clock.monotonic())
            queue = Counter(relation.table for relation, _, granted in found if not granted)
            self.waiting |= {table: max(number, self.waiting.get(table, 0)) for table, number in queue.items()}
            for relation, held, _ in found:
                if held[1] in HINDERING and relation.table not in self._bystanders:
                    self._come(relation, self.holding.open.get(held, asked))

    def _come(self, relation: Relation, since: float) -> None:
        if len(self._bystanders) < MAX_BYSTANDERS:
            self._bystanders[relation.table] = Bystander(
                self._database, relation.table, since, writes=relation.writable
            )

    def _wal(self) -> int:
        (at,) = self._connection.execute(_WAL).fetchone() or (0,)
        return int(at)


@contextmanager
def looking(database: Database, histories: Collection[str]) -> Iterator[Look]:
    """Looks on while the body runs a script on the copy; not at the tables of these names."""
    with database.connect() as connection:
        look = Look(database, connection, histories)
        with look.going_on():
            yield look


def told(look: Look, name: str, way: Way, rows: Mapping[str, int]) -> ScriptRun:
    """What a look comes to. ``rows``: of each table before anything ran."""
    locks = []
    for (number, mode), seconds in look.holding.longest.items():
        relation = look.known[number]
        waiting = look.waiting.get(relation.table, 0)
        locks.append(LockHeld(table=relation.text, mode=mode, seconds=seconds, waiting=waiting))
    return ScriptRun(
        name=name, way=way, seconds=look.seconds, wal_bytes=look.wal_bytes,
        locks=tuple(sorted(locks, key=lambda lock: -lock.seconds)), changes=_changes(look, rows), stalls=_stalls(look),
    )  # fmt: skip


def _changes(look: Look, rows: Mapping[str, int]) -> tuple[TableChange, ...]:
    found = []
    for number, relation in look.known.items():
        now = look.after.get(number)
        rewritten = relation.holds_rows and now is not None and now.file != relation.file
        inserted, updated, deleted = look.rows.get(number, (0, 0, 0))
        if rewritten or inserted or updated or deleted:
            found.append(
                TableChange(
                    table=relation.name, rewritten=rewritten, rows=rows.get(relation.name, 0) if rewritten else 0,
                    inserted=inserted, updated=updated, deleted=deleted,
                )
            )  # fmt: skip
    return tuple(found)


def _stalls(look: Look) -> tuple[Stall, ...]:
    """What clients have measured, and where none had to wait or came in time, what the locks say."""
    found = {(stall.table, stall.what): stall for stall in look.stalls}
    for (number, mode), seconds in sorted(look.holding.longest.items(), key=lambda held: -held[1]):
        relation = look.known[number]
        hindered: list[StallOf] = ["reads"] if mode == ACCESS_EXCLUSIVE else []
        if mode in HINDERING and relation.writable:
            hindered.append("writes")
        if mode == WRITING and any(look.rows.get(number, (0, 0, 0))[1:]):
            hindered.append("writes of the same rows")
        for what in hindered:
            found.setdefault(
                (relation.table, what), Stall(table=relation.table, what=what, seconds=seconds, measured=False)
            )
    return tuple(sorted(found.values(), key=lambda stall: -stall.seconds))
