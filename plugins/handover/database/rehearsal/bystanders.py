"""Clients of a table while a script holds locks on it: how long would they have waited?"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database, cause
from handover.database import catalog
from handover.database.rehearsal.result import Stall, StallOf

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

log = logging.getLogger(__name__)
APPLICATION = "rehearsal-bystander"
"""What their sessions are called, so that nobody takes their locks for the script's."""
ASKS_EVERY_SECONDS = 0.01
GIVES_WAY_SECONDS = 0.2
"""After that it leaves the queue and comes again, as the script itself may be waiting for it (a deadlock)."""
LAST_SECONDS = 10.0


class Bystander:
    """A session that reads and writes one table again and again, each time without touching a row: what it waits for
    are locks. It comes when the first lock is seen; ``since``: when that lock may have been taken.
    """

    def __init__(self, database: Database, table: str, since: float, *, writes: bool) -> None:
        self.table, self._database, self._since, self._writes = table, database, since, writes
        self._over = threading.Event()
        self._longest: dict[StallOf, float] = {}
        self._thread = threading.Thread(target=self._stay, name=f"bystander of {table}", daemon=True)
        self._thread.start()

    def leave(self) -> tuple[Stall, ...]:
        """Ends it, after its last answer; gives the longest waits, of what had to wait at all."""
        self._over.set()
        self._thread.join(LAST_SECONDS)
        return tuple(Stall(table=self.table, what=what, seconds=seconds) for what, seconds in self._longest.items())

    def _stay(self) -> None:
        import psycopg
        from psycopg import sql

        named = catalog.identifier(self.table)
        queries: dict[StallOf, Composed] = {"reads": sql.SQL("SELECT FROM ONLY {} LIMIT 0").format(named)}
        if self._writes:
            queries["writes"] = sql.SQL("BEGIN; LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE; COMMIT").format(named)
        try:
            with self._database.connect() as connection:
                for name, value in (("application_name", APPLICATION), ("lock_timeout", f"{GIVES_WAY_SECONDS}s")):
                    connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                begins = dict.fromkeys(queries, self._since)
                while not self._over.is_set():
                    for what, query in queries.items():
                        self._ask(connection, what, query, begins.get(what) or clock.monotonic())
                    begins = {}
                    self._over.wait(ASKS_EVERY_SECONDS)
        except psycopg.Error as error:
            log.info("the client of %s has ended: %s", self.table, cause(error))

    def _ask(self, connection: Connection[Any], what: StallOf, query: Composed, begin: float) -> None:
        from psycopg import errors

        came = clock.monotonic()
        while True:
            try:
                connection.execute(query)
            except errors.LockNotAvailable:
                connection.rollback()
            else:
                break
        now = clock.monotonic()
        if now - came > ASKS_EVERY_SECONDS:  # else the lock was gone before it came
            self._longest[what] = max(self._longest.get(what, 0.0), now - begin)
