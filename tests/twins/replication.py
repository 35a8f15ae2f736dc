"""The twin of a primary that is written to all the time and of its replica, by the running loop's time.

It answers what `handover.database.lag` asks; tests/database/test_replication.py holds it to what real servers say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from handover import clock
from handover.adapters.postgres import Database

PRIMARY = Database("primary", 5432, "shop", "owner")
REPLICA = Database("replica", 5432, "postgres", "owner")
BYTES_A_SECOND = 100


@dataclass
class TwinServers:
    """``trouble``: "paused", "cut" or "dead", what the replica suffers from until it is ``over``; ``idle``: nobody
    writes.
    """

    trouble: str = ""
    over: Callable[[], bool] = lambda: False
    idle: bool = False
    _stopped_at: int = 0

    @contextmanager
    def suffering(self, trouble: str) -> Iterator[None]:
        """From now on, by the running loop's time, until the block ends."""
        self._stopped_at, self.trouble = self._lsn(), trouble
        try:
            yield
        finally:
            self.trouble = ""

    async def open(self, database: Database, *, command_timeout: float = 2.0) -> TwinConnection:
        """In the place of `Database.open`."""
        if database.host == REPLICA.host and self.trouble == "dead":
            raise ConnectionRefusedError
        return TwinConnection(self, database)

    def row(self, database: Database) -> Mapping[str, Any]:
        if self.over():
            self.trouble = ""
        gone = self.trouble in ("cut", "dead")
        if database.host != REPLICA.host:
            return {
                "lsn": self._lsn(), "streaming": int(not gone), "inactive_slots": int(gone), "connections": 2,
                "blocked": 0,
            }  # fmt: skip
        if self.trouble == "dead":
            raise ConnectionResetError
        return {
            "replayed": self._stopped_at if self.trouble else self._lsn(),
            "pause_state": "paused" if self.trouble == "paused" else "not paused",
            "receiver": "gone" if gone else "streaming",
            "streaming": 0,
        }

    def _lsn(self) -> int:
        return 1000 if self.idle else 1000 + int(clock.monotonic() * BYTES_A_SECOND)


@dataclass
class TwinConnection:
    servers: TwinServers
    database: Database

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None:
        pass

    async def fetchrow(self, query: str) -> Mapping[str, Any]:
        if "system_identifier" in query:
            return {"system_identifier": 7}
        return self.servers.row(self.database)
