"""The worker is killed, or frozen, while it holds a lock that everybody waits for: how long they wait from then on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from handover.adapters.postgres import Database
from handover.database.rehearsal import contents
from handover.database.runner import IDLE_SECONDS
from sandbox.database_faults.found import STALL_MS, Found
from sandbox.database_faults.killing import Processes
from sandbox.database_faults.place import Place, World
from sandbox.database_faults.points import ASKS
from sandbox.database_faults.works import HISTORIES, LONG

PATIENCE = 120.0
FINISH = "SET finished_at"
"""In the transaction, behind all that the migration does."""
_HELD = "SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass AND mode = 'AccessExclusiveLock' AND granted"
_SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


def dead(place: Place, tries: Processes, say: Callable[[str], None] = lambda _: None) -> list[Found]:
    say("a worker that is killed while it holds a lock")
    told = [killed(place, tries)]
    say("a worker that is frozen while it holds a lock")
    return [*told, frozen(place, tries)]


def killed(place: Place, tries: Processes) -> Found:
    """While the server works for it."""
    with place.world() as world:
        before = contents.look(world.database, HISTORIES)
        process = tries.begin(LONG.name, world, (), signal.SIGKILL)
        _until(world.database, _SLEEPS, 1)
        os.kill(process, signal.SIGKILL)
        seconds = _freed(world)
        tries.end()
        wrong = contents.differences(before, contents.look(world.database, HISTORIES))
    stall = seconds * 1000
    wrong += [f"its lock was held for {seconds:.2f} s more"] if stall > STALL_MS else []
    return Found(
        "worker killed", "a long statement of a migration", 1,
        f"its lock is free after {seconds:.2f} s, nothing is left", tuple(wrong), detail={"seconds": seconds},
    )  # fmt: skip


def frozen(place: Place, tries: Processes) -> Found:
    """Between two statements of a transaction."""
    with place.world() as world:
        steps = tries.try_it("migration", world).steps
    at = next(
        number for number, step in enumerate(steps) if step.startswith(f"{ASKS}: UPDATE public") and FINISH in step
    )
    with place.world() as world:
        before = contents.look(world.database, HISTORIES)
        process = tries.begin("migration", world, (at,), signal.SIGSTOP)
        _until(world.database, _HELD, 1)
        seconds = _freed(world)
        now = contents.look(world.database, HISTORIES)
        os.kill(process, signal.SIGCONT)
        failure = tries.end().failure
    wrong = contents.differences(before, now) + ([] if failure else ["the frozen worker went on as if nothing was"])
    wrong += [f"its lock was held for {seconds:.1f} s"] if seconds > IDLE_SECONDS + 5 else []
    said = f"its lock is free after {seconds:.1f} s, nothing is left"
    step = "between two statements of a migration"
    return Found("worker frozen", step, 1, said, tuple(wrong), detail={"seconds": seconds})


def _freed(world: World) -> float:
    begin = time.monotonic()
    _until(world.database, _HELD, 0)
    return time.monotonic() - begin


def _until(database: Database, query: str, value: int) -> None:
    with database.connect() as connection:
        end = time.monotonic() + PATIENCE
        while connection.execute(query.encode()).fetchone() != (value,):
            assert time.monotonic() < end, query
            time.sleep(0.005)
