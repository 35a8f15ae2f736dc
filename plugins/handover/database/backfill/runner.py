"""Fills the rows that were there before the trigger: batch after batch, each with its checkpoint in one transaction."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from handover import clock
from handover.adapters.postgres import cause
from handover.database import catalog
from handover.database.backfill import checkpoint, statements
from handover.database.backfill.batches import Pace, time_left
from handover.database.backfill.checkpoint import Paused, State
from handover.database.backfill.shape import Key, Shape, shown

if TYPE_CHECKING:
    from handover.adapters.postgres import Database
    from handover.database.backfill.pressure import Pressure
    from handover.plan.data_migrations import DataMigrations

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 5.0
HELD_SECONDS = 20.0
"""Held for so long in one piece, a worker gives its slot back."""
LONGEST_PAUSE = 1.0
AGAIN = ("55P03", "57014", "40P01", "40001")
"""Lock not to be had, cancelled for a writer, deadlock, serialization: smaller, after a while."""
OF_ROWS = ("22", "23", "P0", "54", "42")
"""Classes of errors that a row can be the reason of."""


class RowFailed(Exception):
    """The expression fails for one row, which is named by its key."""


@dataclass(frozen=True)
class Ended:
    """Why batches do not go on now, and how far they are."""

    how: Literal["done", "held", "paused", "slice"]
    state: State
    why: str = ""
    undone: int = 0
    seconds: float = 0.0


class Backfill:
    """One worker. Raises `RowFailed`, and `handover.database.backfill.checkpoint.Superseded`. ``undone``: batches that
    were, so far.
    """

    def __init__(self, primary: Database, shape: Shape, rules: DataMigrations, pressure: Pressure, owner: str) -> None:
        self._primary, self._shape, self._rules, self._pressure, self._owner = primary, shape, rules, pressure, owner
        self.undone = 0
        self._told = -PROGRESS_SECONDS

    def run(self, seconds: float) -> Ended:
        """Works for at most so long."""
        begin = clock.monotonic()
        with self._primary.connect() as connection:
            connection.execute("SELECT set_config(%s, %s, false)", (statements.SETTING, self._shape.name))
            connection.execute(f"SET lock_timeout = {int(self._rules.lock_timeout_seconds * 1000)}".encode())
            connection.execute(b"SET enable_seqscan = off")  # a range is found by its index, whatever is estimated
            with connection.transaction():
                state = checkpoint.claim(connection, self._shape.name, self._owner)
            if state.stage == "filled":
                state = self._again(connection, state)
            if state.stage != "filling":
                return Ended("done", state)
            if state.fingerprint != self._shape.fingerprint:
                raise checkpoint.Superseded(
                    f"{self._shape.name}: the plan describes it otherwise than when it began: abort it first"
                )
            if state.last_key is None:
                self._find_end(connection)
            how, why = self._batches(connection, state, begin, seconds)
            left = checkpoint.read(connection, self._shape.name) or state
            return Ended(how, left, why, self.undone, clock.monotonic() - begin)

    def _again(self, connection: psycopg.Connection[Any], state: State) -> State:
        """From the beginning, where rows are wrong that were written past the trigger: by replication, or while it was
        off.
        """
        found = connection.execute(statements.compared(self._shape)).fetchone()
        assert found is not None
        if not found[1]:
            return state
        log.info("%s was filled, and %d rows are wrong by now: it begins again", self._shape.name, found[1])
        with connection.transaction():
            return checkpoint.again(connection, state, self._shape.name) or state

    def _find_end(self, connection: psycopg.Connection[Any]) -> None:
        last = connection.execute(statements.last(self._shape)).fetchone()
        first = connection.execute(statements.first(self._shape)).fetchone()
        if last is None or first is None:
            total = 0
        elif self._shape.dense:
            total = int(last[0]) - int(first[0]) + 1
        else:
            total = catalog.row_count(connection, self._shape.table)
        with connection.transaction():
            checkpoint.set_range(connection, self._shape.name, tuple(last) if last else None, total)

    def _batches(
        self, connection: psycopg.Connection[Any], claimed: State, begin: float, seconds: float
    ) -> tuple[Literal["done", "held", "paused", "slice"], str]:
        rules = self._rules
        pace = Pace(min(claimed.batch_size or rules.first_batch, rules.max_batch), rules.batch_seconds, rules.max_batch)
        first, held_since, failures = claimed.passed, 0.0, 0
        while (now := clock.monotonic()) - begin < seconds:
            if why := self._pressure.hold():
                held_since = held_since or now
                self._tell_held(now, why)
                if now - held_since > HELD_SECONDS:
                    return "held", why
                self._pressure.wait(0.05)
                continue
            held_since = 0.0
            try:
                state, rows = self._batch(connection, claimed.generation, pace.size)
                if rows is None:
                    return "done", ""
                pace = pace.after(rows, clock.monotonic() - now)
                self._tell(state, first, clock.monotonic() - begin)
                failures = 0
            except Paused as error:
                return "paused", str(error)
            except psycopg.Error as error:
                self.undone += 1
                pace, failures = self._smaller(connection, claimed.generation, pace, error, failures)
        return "slice", ""

    def _smaller(
        self, connection: psycopg.Connection[Any], generation: int, pace: Pace, error: psycopg.Error, failures: int
    ) -> tuple[Pace, int]:
        state = error.sqlstate or ""
        if state in AGAIN:
            pause = min(LONGEST_PAUSE, 0.02 * 2**failures)
            self._pressure.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that two do not meet again
            return pace.halved(), min(failures + 1, 10)
        if not state.startswith(OF_ROWS) or connection.closed:
            raise error
        if pace.size > 1:
            return pace.narrowed(pace.size), failures
        with connection.transaction():
            held = checkpoint.hold(connection, self._shape.name, generation)
            up_to = self._up_to(connection, held, 1) or held.last_key
        assert up_to is not None
        reason = "a trigger or function of the service refuses it" if state.startswith("P0") else cause(error)
        raise RowFailed(
            f"the row {shown(self._shape, up_to)} of {self._shape.table} cannot be filled ({state}: {reason}); its"
            " batch was undone. Mend the row or the expression, then run this again: it goes on from there"
        ) from None

    def _batch(self, connection: psycopg.Connection[Any], generation: int, size: int) -> tuple[State, int | None]:
        """How it stood before, and how many rows or keys it passed; None when nothing is left."""
        with self._pressure.batch(connection), connection.transaction():
            state = checkpoint.hold(connection, self._shape.name, generation)
            if state.last_key is None or state.checkpoint == state.last_key:
                checkpoint.to_stage(connection, self._shape.name, "filled")
                return state, None
            up_to = self._up_to(connection, state, size)
            passed = size if up_to else min(size, max(0, state.total - state.passed))
            up_to = up_to or state.last_key
            filled = connection.execute(statements.fill(self._shape, state.checkpoint, up_to)).rowcount
            checkpoint.advance(connection, self._shape.name, up_to, passed, filled, size)
            return state, max(1, passed)

    def _up_to(self, connection: psycopg.Connection[Any], state: State, size: int) -> Key | None:
        """The last key of the next batch; None: what is left."""
        assert state.last_key is not None
        if self._shape.dense:
            if state.checkpoint is None:
                first = connection.execute(statements.first(self._shape)).fetchone()
                begin = int(first[0]) - 1 if first else int(state.last_key[0])
            else:
                begin = int(state.checkpoint[0])
            return (str(begin + size),) if begin + size < int(state.last_key[0]) else None
        row = connection.execute(statements.bound(self._shape, state.checkpoint, state.last_key, size)).fetchone()
        return tuple(row) if row else None

    def _tell(self, state: State, first: int, seconds: float) -> None:
        if clock.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told = clock.monotonic()
        rate = (state.passed - first) / seconds if seconds > 0 else 0.0
        left = time_left(state.passed, state.total, rate)
        log.info(
            "%s: %d of %d passed, %d filled, %.0f a second, %s left; batches of %s", self._shape.name, state.passed,
            state.total, state.filled, rate, "unknown time" if left is None else f"{left:.0f} s", state.batch_size,
        )  # fmt: skip

    def _tell_held(self, now: float, why: str) -> None:
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            log.info("%s holds: %s", self._shape.name, why)
