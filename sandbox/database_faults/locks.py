"""Somebody holds what the work wants to change, for seconds, while others read and write: nobody may wait for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from handover.adapters.postgres import Database
from sandbox.database_faults.clients import clients
from sandbox.database_faults.found import STALL_MS, Found
from sandbox.database_faults.killing import Processes, differences
from sandbox.database_faults.place import Place
from sandbox.database_faults.works import Work

HELD_SECONDS = 6.0
HELD = "UPDATE orders SET status = status WHERE id = 899; UPDATE customers SET name = name WHERE id = 299"
"""It stays open: no other lock on both tables but a reader's and a writer's is to be had, and two rows by nobody."""


def held(
    place: Place, tries: Processes, works: Iterable[Work], seconds: float = HELD_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Found]:  # fmt: skip
    return (_held(place, tries, work, seconds, say) for work in works)


def _held(place: Place, tries: Processes, work: Work, seconds: float, say: Callable[[str], None]) -> Found:
    say(f"{work.name} behind a lock of {seconds:g} s")
    with place.world() as template:
        work.begin(template)
        with place.world(template.database) as world:
            assert not (whole := tries.try_it(work.name, world)).failure, whole.failure
            expected = work.seen(world)
        with place.world(template.database) as world:
            with clients(world.database) as waited, somebody(world.database, seconds):
                begin = time.monotonic()
                ended = tries.try_it(work.name, world)
                took = time.monotonic() - begin
            wrong = [ended.failure] if ended.failure else differences(expected, work.seen(world))
    wrong = [one for one in wrong if not one.startswith(work.theirs)] + [*waited.failures]
    said = "otherwise" if wrong else f"ends after {took:.1f} s as undisturbed"
    return Found(
        f"lock held {seconds:g} s", work.name, 1, said, tuple(wrong), waited.longest_ms, waited.noise_ms, STALL_MS,
        {"statement": waited.statement, "statements": waited.statements},
    )  # fmt: skip


@contextmanager
def somebody(database: Database, seconds: float) -> Iterator[None]:
    """Holds it for so long, whatever the body does."""
    with database.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(HELD.encode())
        ends = threading.Timer(seconds, lambda: connection.execute("COMMIT"))
        ends.start()
        try:
            yield
        finally:
            ends.join()
