"""Every way in which a replica may stop following, and how soon it is seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import psutil

from handover.adapters.postgres import Database
from handover.database.lag import INTERVAL_SECONDS, NO_TIMEOUT, LagSample, Replication, replication
from sandbox.bench_database.postgres import Pair
from sandbox.database_faults.found import SEEN_SECONDS, Found

Trouble = Callable[[Pair], AbstractContextManager[None]]
LIMIT_SECONDS = 2.0
IDLE_SECONDS = 10.0
PATIENCE = 60.0


def faults(pair: Pair, say: Callable[[str], None] = lambda _: None) -> Iterator[Found]:
    database = pair.new("lag")
    with database.connect() as connection:
        connection.execute("CREATE TABLE visits (at timestamptz DEFAULT now())")
    yield _idle(pair, database)
    for what, suffering in TROUBLES.items():
        say(f"replica: {what}")
        yield asyncio.run(_seen(pair, database, what, suffering))


def _idle(pair: Pair, database: Database) -> Found:
    """Nobody writes: that is no lag."""

    async def look() -> list[LagSample]:
        async with replication(database, [pair.replica]) as looking:
            await _until(looking, lambda sample: sample.within(LIMIT_SECONDS))
            found, end = list[LagSample](), time.monotonic() + IDLE_SECONDS
            while time.monotonic() < end:
                found.append(await _until(looking, lambda _: True))
                await asyncio.sleep(INTERVAL_SECONDS)
            return found

    bad = [sample.text for sample in asyncio.run(look()) if not sample.within(LIMIT_SECONDS)]
    said = "no lag is told" if not bad else "lag is told"
    return Found("lag", f"an idle primary, {IDLE_SECONDS:g} s", 1, said, tuple(bad[:1]))


async def _seen(
    pair: Pair, database: Database, what: str, suffering: Callable[[Pair], AbstractContextManager[None]]
) -> Found:
    async with replication(database, [pair.replica]) as looking:
        with _writing(database):
            await _until(looking, lambda sample: sample.within(LIMIT_SECONDS))
            with suffering(pair):
                begin = time.monotonic()
                sample = await _until(looking, lambda sample: not sample.within(LIMIT_SECONDS))
                seconds = time.monotonic() - begin
            await _until(looking, lambda sample: sample.within(LIMIT_SECONDS))
    aim = SEEN_SECONDS + (NO_TIMEOUT if suffering is frozen else 0.0)
    wrong = () if seconds <= aim else (f"seen after {seconds:.2f} s",)
    return Found("lag", what, 1, f"seen after {seconds:.2f} s: {sample.text}", wrong, detail={"seconds": seconds})


async def _until(looking: Replication, so: Callable[[LagSample], bool]) -> LagSample:
    async with asyncio.timeout(PATIENCE):
        async for sample in looking.samples():
            if so(sample):
                return sample
    raise AssertionError("samples go on for ever")


@contextmanager
def _writing(database: Database) -> Iterator[None]:
    over = threading.Event()

    def write() -> None:
        with database.connect() as connection:
            while not over.wait(0.05):
                connection.execute("INSERT INTO visits DEFAULT VALUES")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ask(server: Database, *queries: str) -> None:
    with server.connect() as connection:
        for query in queries:
            connection.execute(query.encode())


@contextmanager
def paused(pair: Pair) -> Iterator[None]:
    _ask(pair.replica, "SELECT pg_wal_replay_pause()")
    yield
    _ask(pair.replica, "SELECT pg_wal_replay_resume()")


@contextmanager
def receiver_cut(pair: Pair) -> Iterator[None]:
    with pair.replica.connect() as connection:
        (source,) = connection.execute("SELECT quote_literal(current_setting('primary_conninfo'))").fetchone() or ("",)
    _ask(pair.replica, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
    yield
    _ask(pair.replica, f"ALTER SYSTEM SET primary_conninfo = {source}", "SELECT pg_reload_conf()")


@contextmanager
def killed(pair: Pair) -> Iterator[None]:
    kill(pair, "replica")
    yield
    pair.serve("replica")


def kill(pair: Pair, name: str) -> None:
    """The whole server, with SIGKILL."""
    for process in _processes(pair, name):
        with suppress(psutil.Error):  # it has ended with the first one
            process.kill()
    pair.processes[name].stop()


@contextmanager
def frozen(pair: Pair) -> Iterator[None]:
    """It takes connections, and answers nothing: that it is no more than slow is given some time."""
    processes = _processes(pair, "replica")
    for process in processes:
        process.suspend()
    yield
    for process in reversed(processes):
        process.resume()


def _processes(pair: Pair, name: str) -> list[psutil.Process]:
    """PostgreSQL's, the one that starts all others first."""
    first = psutil.Process(int((pair.folder / name / "postmaster.pid").read_text().split()[0]))
    return [first, *first.children(recursive=True)]


@contextmanager
def slot_left(pair: Pair) -> Iterator[None]:
    """Of a replica that somebody has forgotten: the primary keeps its WAL for ever."""
    _ask(pair.primary, "SELECT pg_create_physical_replication_slot('forgotten', true)")
    yield
    _ask(pair.primary, "SELECT pg_drop_replication_slot('forgotten')")


TROUBLES: dict[str, Trouble] = {
    "replay is paused": paused, "the receiver is cut": receiver_cut, "the replica is killed": killed,
    "the replica is frozen": frozen, "a slot that nobody reads": slot_left,
}  # fmt: skip
