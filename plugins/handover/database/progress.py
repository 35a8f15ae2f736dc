"""How far PostgreSQL is with what takes long: the views ``pg_stat_progress_*``, while a migration runs (plan 3.2).

Every view that the server has is read, whatever its columns: CREATE INDEX, VACUUM, CLUSTER, ANALYZE, COPY. A server
that does not answer stops and delays no migration.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database, cause
from handover.models.evidence import Measurement

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
SOURCE = "pg_stat_progress"
_VIEWS = r"""
SELECT viewname FROM pg_catalog.pg_views WHERE schemaname = 'pg_catalog' AND viewname LIKE 'pg\_stat\_progress\_%'
  AND viewname <> 'pg_stat_progress_basebackup' ORDER BY 1
"""
_DONE = ("tuples_done", "blocks_done", "heap_blks_scanned", "sample_blks_scanned", "bytes_processed", "lockers_done")
_TOTAL = ("tuples_total", "blocks_total", "heap_blks_total", "sample_blks_total", "bytes_total", "lockers_total")
Sessions = Callable[["Connection[Any]"], Sequence[int]]


@dataclass(frozen=True)
class Stage:
    """A phase of a command on a table; ``table`` is None where the command has none."""

    command: str
    table: str | None
    phase: str

    def __str__(self) -> str:
        return f"{self.command}{f' of {self.table}' if self.table else ''}, {self.phase}"


def query(connection: Connection[Any]) -> Composed | None:
    """SQL that gives the command, table and columns of what is going on in this database; None: no view is there."""
    from psycopg import sql

    one = sql.SQL(
        "SELECT {}, CASE WHEN p.relid <> 0 THEN p.relid::regclass::text END, to_jsonb(p) FROM {} p"
        " WHERE p.datname = current_database() AND p.pid = ANY (%(pids)s)"
    )
    views = [row[0] for row in connection.execute(_VIEWS)]
    parts = [
        one.format(sql.Literal(view.removeprefix("pg_stat_progress_").replace("_", " ")), sql.Identifier(view))
        for view in views
    ]
    return sql.SQL(" UNION ALL ").join(parts) if parts else None


def share(columns: dict[str, Any]) -> float | None:
    """How much of its phase is done, from 0 to 1; None where PostgreSQL does not tell."""
    for done, total in zip(_DONE, _TOTAL, strict=True):
        if columns.get(total):
            return min(1.0, (columns.get(done) or 0) / columns[total])
    return None


class Progress:
    """Looks every second in a thread of its own, and logs what has moved.

    :param sessions: the backends that migrate now, asked each time
    """

    def __init__(self, primary: Database, sessions: Sessions) -> None:
        self.seconds: dict[Stage, float] = {}
        self._primary, self._sessions = primary, sessions
        self._since: dict[Stage, float] = {}
        self._said: dict[Stage, int] = {}
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Progress]:
        thread = threading.Thread(target=self._watch, name="migration-progress", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join(10)

    def measurements(self) -> tuple[Measurement, ...]:
        """Seconds for which each phase was seen: up to `LOOK_SECONDS` less than it took at both ends."""
        return tuple(
            Measurement(what=str(stage), value=round(seconds, 1), unit="s", source=SOURCE)
            for stage, seconds in self.seconds.items()
        )

    def look(self, connection: Connection[Any], asked: Composed) -> None:
        """Notes what is going on now. Raises psycopg's errors."""
        pids = list(self._sessions(connection))
        found = connection.execute(asked, {"pids": pids}).fetchall() if pids else []
        now, going_on = clock.monotonic(), set[Stage]()
        for command, table, columns in found:
            stage = Stage(command, table, columns.get("phase") or columns.get("command") or "running")
            going_on.add(stage)
            self._since.setdefault(stage, now)
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since[stage]
            self._since[stage] = now
            self._say(stage, share(columns))
        for stage in self._since.keys() - going_on:
            del self._since[stage]

    def _say(self, stage: Stage, done: float | None) -> None:
        """Once, and again with each tenth of it."""
        tenth = int((done or 0.0) * 10)
        if self._said.get(stage) != tenth:
            self._said[stage] = tenth
            log.info("%s%s", stage, "" if done is None else f": {done:.0%}")

    def _watch(self) -> None:
        import psycopg

        try:
            with self._primary.connect() as connection:
                if (asked := query(connection)) is not None:
                    while not self._over.wait(LOOK_SECONDS):
                        self.look(connection, asked)
        except psycopg.Error as error:
            log.warning("how far the migration is is not known any more: %s", cause(error))
