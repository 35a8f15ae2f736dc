"""The primary is killed in the middle of batches, its replica is promoted, and the batches go on there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg

from handover.adapters.postgres import Database
from sandbox.bench_database.postgres import Pair, pair
from sandbox.database_faults.found import Found, judged
from sandbox.database_faults.killing import Processes, differences
from sandbox.database_faults.lag import kill, receiver_cut
from sandbox.database_faults.place import OWNER, Place, World
from sandbox.database_faults.works import STAGES, Seen

MOMENTS = (0.2, 0.5, 0.8)
"""Of the way through the batches, by their steps."""
PATIENCE = 120.0
PlaceOf = Callable[[Pair], Place]


@dataclass
class Acknowledged:
    """What a client was told is written."""

    rows: list[int] = field(default_factory=list)


def failovers(
    home: Path, place_of: PlaceOf, tries: Processes, moments: Sequence[float] = MOMENTS,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Found]:  # fmt: skip
    """Each moment on a pair of its own, since its primary is gone afterwards."""
    said, whole = "every row is filled once", list[list[str]]()
    for moment in moments:
        say(f"failover at {moment:.0%} of the batches")
        with pair(home) as servers:
            whole.append(_failover(servers, place_of(servers), tries, moment, lost=0.0))
    yield judged("failover", "batches, synchronous replica", f"{said}, no acknowledged write is gone", whole)
    say("failover to a replica that lacks the last batches")
    with pair(home) as servers:
        wrong = _failover(servers, place_of(servers), tries, moments[-1], lost=moments[-1] / 2)
    yield judged("failover", "batches, the replica lacks the last ones", said, [wrong])


def _failover(servers: Pair, place: Place, tries: Processes, moment: float, lost: float) -> list[str]:
    """What is wrong afterwards. ``lost``: the replica gets nothing any more from this moment on; 0: it gets all."""
    work = STAGES["batches"]
    template = place.shop()
    work.begin(World(template, place.elsewhere, place.s3))
    with place.world(template) as world:
        first = tries.try_it(work.name, replace(world, replica=None))
        assert not first.failure, first.failure
        expected = work.seen(world)
    made = place.made(template.name)
    world = World(made, place.elsewhere, place.s3, None if lost else replace(made, host=servers.replica.host))
    if not lost:
        place.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        place.ask("SELECT pg_reload_conf()")
    at = [max(1, int(len(first.steps) * part)) for part in (lost, moment) if part]
    with writing(made) as acknowledged:
        process = tries.begin(work.name, world, at, signal.SIGSTOP)
        _stopped(process, tries)
        if lost:
            _caught_up(servers)
            cut = receiver_cut(servers)
            cut.__enter__()  # it is never given back
            os.kill(process, signal.SIGCONT)
            _stopped(process, tries)
        kill(servers, "primary")
    os.kill(process, signal.SIGCONT)
    ended = tries.end()
    wrong = [] if ended.failure else ["the worker of the old primary did not fail"]
    place.ask("SELECT pg_promote()", servers.replica)
    there = replace(world, database=replace(made, host=servers.replica.host), replica=None)
    wrong += _gone_on(there, tries, expected)
    if not lost:
        kept = {row for (row,) in place.ask("SELECT id FROM visits", servers.replica.named(made.name))}
        wrong += [f"{len(missing)} acknowledged writes are gone"] if (missing := set(acknowledged.rows) - kept) else []
    return wrong


def _gone_on(there: World, tries: Processes, expected: Seen) -> list[str]:
    work = STAGES["batches"]
    ended = tries.try_it(work.name, there)
    return [ended.failure] if ended.failure else differences(expected, work.seen(there))


def _caught_up(servers: Pair) -> None:
    with servers.primary.connect() as one, servers.replica.connect() as other:
        row = one.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        end = time.monotonic() + PATIENCE
        while other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() != (True,):
            assert time.monotonic() < end, "the replica does not catch up"
            time.sleep(0.05)


def _stopped(process: int, tries: Processes) -> None:
    """Until it has come to the step at which it stops."""
    end = time.monotonic() + PATIENCE
    while not psutil.pid_exists(process) or psutil.Process(process).status() != psutil.STATUS_STOPPED:
        assert psutil.pid_exists(process), f"the work has ended before the step: {tries.end()}"
        assert time.monotonic() < end, "the work does not come to the step"
        time.sleep(0.02)


@contextmanager
def writing(database: Database) -> Iterator[Acknowledged]:
    """A client that writes row after row until the server is gone."""
    told, over = Acknowledged(), threading.Event()

    def write() -> None:
        number = 0
        try:
            with database.connect() as connection:
                while not over.wait(0.01):
                    number += 1
                    connection.execute("INSERT INTO visits VALUES (%s)", (number,))
                    told.rows.append(number)
        except psycopg.Error:
            return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()


def owned(servers: Pair, elsewhere: Database, s3: str, password: str) -> Place:
    """The role that owns databases, made where it is not there yet."""
    for server in (servers.primary, elsewhere):
        with server.connect() as connection:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone() is None:
                connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{password}'".encode())
                connection.execute(f"GRANT pg_monitor TO {OWNER}".encode())
    there = replace(elsewhere, user=OWNER, password=password)
    return Place(servers.primary, replace(servers.replica, user=OWNER, password=password), there, s3, password)
