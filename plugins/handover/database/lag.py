"""How far replicas are behind, by the history of the primary's LSN.

Measured against the usual ways (seconds; true value in brackets):

========================================= ============ ================ =================== ============
measure                                   idle 10 s [0] replay paused [8] receiver cut 8 s [8] replica dead
========================================= ============ ================ =================== ============
now() - pg_last_xact_replay_timestamp()   10.01 wrong  7.99             7.96                error
the same, 0 when receive = replay         0            7.99             0.0 wrong           error
pg_stat_replication.replay_lag            NULL         7.94             row gone            row gone
heartbeat row                             10.1 wrong   8.11             8.12                error
**LSN history**                           **0.0**      **7.96**         **7.93**            **infinite**
========================================= ============ ================ =================== ============

Both users must see the columns of ``pg_stat_replication`` and ``pg_stat_wal_receiver`` (role ``pg_monitor``).
"""

from __future__ import annotations

import asyncio
import bisect
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database

if TYPE_CHECKING:
    import asyncpg

INTERVAL_SECONDS = 0.1
KEPT = 36_000
"""Samples: an hour of a primary that writes all the time."""
NO_TIMEOUT = 2.0
"""Seconds after which a server that does not answer counts as one that cannot be asked."""


class LsnHistory:
    """When the primary was first seen at which LSN. Pure; times are of one monotonic clock, in seconds."""

    def __init__(self, kept: int = KEPT) -> None:
        self._times: list[float] = []
        self._lsns: list[int] = []
        self._kept = kept

    def add(self, at: float, lsn: int) -> None:
        if self._lsns and lsn < self._lsns[-1]:  # another primary: what was known means nothing now
            self._times, self._lsns = [], []
        if not self._lsns or lsn > self._lsns[-1]:
            self._times.append(at)
            self._lsns.append(lsn)
            if len(self._lsns) > self._kept:
                del self._times[: self._kept // 10], self._lsns[: self._kept // 10]

    def covers(self, replayed: int) -> bool:
        """Whether the history reaches back to this LSN; if not, `behind` is only a lower bound."""
        return bool(self._lsns) and replayed >= self._lsns[0]

    def behind(self, replayed: int, now: float) -> float:
        """Seconds since the primary wrote the first thing that the replica has not replayed."""
        if not self._lsns:
            return math.inf
        first_beyond = bisect.bisect_right(self._lsns, replayed)
        return 0.0 if first_beyond == len(self._lsns) else now - self._times[first_beyond]


@dataclass(frozen=True)
class Primary:
    """What the primary says. ``inactive_slots``: physical slots that nobody reads. ``cluster``: its system identifier,
    None when this role may not ask for it.
    """

    lsn: int
    streaming: int
    inactive_slots: int
    connections: int
    blocked: int
    cluster: int | None


@dataclass(frozen=True)
class Replica:
    """What a replica says. ``streaming``: replicas that follow this one. ``cluster``: as the primary's."""

    replayed: int
    pause_state: str
    receiver: str
    streaming: int
    cluster: int | None

    @property
    def problem(self) -> str | None:
        """Why it does not follow, whatever its LSN."""
        if self.pause_state != "not paused":
            return f"its replay is {self.pause_state}"
        if self.receiver != "streaming":
            return f"its receiver is {self.receiver}"
        return None


@dataclass(frozen=True)
class LagSample:
    """One look at all servers. ``seconds``: the worst replica's lag; infinite when one cannot be asked.

    ``problems``: why replication does not work, whatever the lag. ``primary`` None: it did not answer.
    """

    seconds: float
    problems: tuple[str, ...]
    primary: Primary | None

    @property
    def text(self) -> str:
        lag = "infinite" if math.isinf(self.seconds) else f"{self.seconds:.2f} s"
        return "; ".join([f"lag {lag}", *self.problems])

    def within(self, limit: float) -> bool:
        return not self.problems and self.seconds < limit


def judge(
    history: LsnHistory, now: float, primary: Primary | None, replicas: Mapping[str, Replica | None]
) -> LagSample:
    """The sample of what the servers said; None: it could not be asked.

    What a replica lacks that was written before our first look may be of any age: of that no look can say more than
    how long ago the first one was, and a replica that is there is not well yet.
    """
    if primary is None:
        return LagSample(math.inf, ("the primary cannot be asked",), None)
    problems, worst = [], 0.0
    for name, replica in replicas.items():
        if replica is None:
            problems.append(f"{name} cannot be asked")
            worst = math.inf
            continue
        if replica.problem:
            problems.append(f"{name}: {replica.problem}")
        if None in (primary.cluster, replica.cluster):
            problems.append(
                f"whether {name} is of the primary's cluster is not known: both roles have to be let call"
                " pg_control_system()"
            )
        elif primary.cluster != replica.cluster:
            problems.append(f"{name} is a replica of another cluster")
            worst = math.inf
            continue
        if not history.covers(replica.replayed):
            problems.append(
                f"how far {name} is behind is not known yet: it is at what was written before our first look"
            )
        worst = max(worst, history.behind(replica.replayed, now))
    following = primary.streaming + sum(replica.streaming for replica in replicas.values() if replica)
    if following < len(replicas):
        problems.append(
            f"only {following} of {len(replicas)} replicas are streamed to: name those that others follow, too"
        )
    if primary.inactive_slots:
        problems.append(f"{primary.inactive_slots} replication slots are inactive")
    return LagSample(worst, tuple(problems), primary)


class LagTrouble:
    """Gives a lag that is a number: one that cannot be known is at least as long as the trouble lasts. Pure."""

    def __init__(self, now: float) -> None:
        self._good = now

    def seconds(self, sample: LagSample, now: float) -> float:
        if not sample.problems and math.isfinite(sample.seconds):
            self._good = now
            return sample.seconds
        since = now - self._good
        return max(since, sample.seconds) if math.isfinite(sample.seconds) else since


_STREAMING = """(SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'
        AND application_name NOT IN ('pg_basebackup', 'pg_receivewal')) AS streaming"""
_PRIMARY = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS lsn, STREAMING,
       (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active) AS inactive_slots,
       count(*) FILTER (WHERE backend_type = 'client backend') AS connections,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS blocked
FROM pg_stat_activity WHERE datname = current_database()
""".replace("STREAMING", _STREAMING)
_REPLICA = """
SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS replayed,
       CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE 'over, it is a primary' END
           AS pause_state,
       coalesce((SELECT status FROM pg_stat_wal_receiver), 'gone') AS receiver, STREAMING
""".replace("STREAMING", _STREAMING)
_CLUSTER = "SELECT system_identifier FROM pg_catalog.pg_control_system()"


class _Server:
    """One connection that is made again after it was lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self.cluster: int | None = None

    async def ask(self, query: str) -> Any | None:
        """The row, or None when the server cannot be asked in time."""
        import asyncpg

        try:
            async with asyncio.timeout(NO_TIMEOUT):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._database.open(command_timeout=NO_TIMEOUT)
                    self.cluster = await self._identity(self._connection)
                return await self._connection.fetchrow(query)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await self.close()
            return None

    async def _identity(self, connection: asyncpg.Connection) -> int | None:
        """Of the cluster that is behind this connection; another one may lead elsewhere."""
        import asyncpg

        try:
            return int((await connection.fetchrow(_CLUSTER))["system_identifier"])
        except asyncpg.InsufficientPrivilegeError:
            return None

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class Replication:
    """A primary and its replicas, looked at over and over with one connection each."""

    def __init__(self, primary: Database, replicas: Iterable[Database]) -> None:
        self._primary = _Server(primary)
        self._replicas = {f"replica {db.host}:{db.port}": _Server(db) for db in replicas}
        self._history = LsnHistory()

    async def look(self) -> LagSample:
        """One look. The primary is asked first, so that a replica is never seen ahead of what we know."""
        row = await self._primary.ask(_PRIMARY)
        primary = Primary(**dict(row), cluster=self._primary.cluster) if row else None
        if primary is not None:
            self._history.add(clock.monotonic(), primary.lsn)
        rows = await asyncio.gather(*(server.ask(_REPLICA) for server in self._replicas.values()))
        replicas = {
            name: Replica(**dict(found), cluster=server.cluster) if found and found["replayed"] is not None else None
            for (name, server), found in zip(self._replicas.items(), rows, strict=True)
        }
        return judge(self._history, clock.monotonic(), primary, replicas)

    async def samples(self, interval: float = INTERVAL_SECONDS) -> AsyncIterator[LagSample]:
        """Looks for ever, every ``interval`` seconds."""
        while True:
            begin = clock.monotonic()
            yield await self.look()
            await asyncio.sleep(max(0.0, begin + interval - clock.monotonic()))

    async def close(self) -> None:
        await asyncio.gather(self._primary.close(), *(server.close() for server in self._replicas.values()))


@asynccontextmanager
async def replication(primary: Database, replicas: Iterable[Database]) -> AsyncIterator[Replication]:
    """`Replication` whose connections are closed at the end."""
    looking = Replication(primary, replicas)
    try:
        yield looking
    finally:
        await looking.close()


class Sustained:
    """Says when the lag has been within its limit for long enough without a break. Pure."""

    def __init__(self, limit: float, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._since: float | None = None

    def reached(self, sample: LagSample, now: float) -> bool:
        if not sample.within(self._limit):
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return now - self._since >= self._seconds
