"""What happens before and after the batches: expand, compare, cut over, contract, abort. Each may run twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from handover import clock
from handover.database import blockers
from handover.database.backfill import checkpoint, statements
from handover.database.backfill.shape import Key, Shape, shown
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from handover.adapters.postgres import Database
    from handover.plan.data_migrations import DataMigration

TRY_SECONDS = 120.0
"""For so long a lock is tried for, again and again for a moment, before it is given up."""
KEYS = 10


class NotNow(Exception):
    """The lock of the table is not to be had, or it is too early, or too late."""


@dataclass(frozen=True)
class Difference:
    """Rows that were looked at; of how many the new columns are not what their expression says, and the old ones not
    what the way back says; in how many the expression gives NULL where a value is required; the keys of the first ones.
    """

    rows: int
    wrong: int
    wrong_back: int
    null: int
    keys: tuple[Key, ...]

    def told(self, shape: Shape) -> str:
        """What is wrong and what to do, never a value; "" when nothing is."""
        said = []
        if self.wrong:
            said.append(
                f"{self.wrong} rows of {shape.table} are not what the expressions say: clear the backfill, which fills"
                " them"
            )
        if self.wrong_back:
            said.append(f"{self.wrong_back} rows of {shape.table} would come back otherwise")
        if self.null:
            columns = ", ".join(shape.forward.columns)
            said.append(
                f"{self.null} rows of {shape.table} have no value in {columns}, which is required: mend them or the"
                " expression, or leave `required` out"
            )
        if said:
            said.append("the first: " + "; ".join(shown(shape, key) for key in self.keys))
        return "; ".join(said)


def _patient(
    connection: psycopg.Connection[Any], table: str, lock_timeout: float, work: Callable[[], None],
    pause: Callable[[float], object],
) -> None:  # fmt: skip
    """Runs it in a transaction that waits for no lock for long, again and again. Raises `NotNow`."""
    end, tries = clock.monotonic() + TRY_SECONDS, 0
    while True:
        blockers.make_way(connection, table_name.split(table)[-1:])
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {max(1, int(lock_timeout * 1000))}".encode())
                work()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if clock.monotonic() > end:
                raise NotNow(
                    f"somebody has held the table's lock for {TRY_SECONDS:.0f} s; nothing was changed"
                ) from None
        tries = min(tries + 1, 6)
        pause(random.uniform(0.5, 1.5) * 0.03 * 2**tries)  # noqa: S311 - so that two do not meet again


class Stages:
    """One data migration on its primary. ``pause``: waits so many seconds."""

    def __init__(self, primary: Database, lock_timeout: float, pause: Callable[[float], object]) -> None:
        self._primary, self._lock_timeout, self._pause = primary, lock_timeout, pause

    def add(self, move: DataMigration) -> None:
        """The columns that the plan adds. Raises `NotNow`."""
        if move.add:
            self._change(move.table, [statements.add(move.table, move.add)])

    def expand(self, shape: Shape) -> None:
        """From its end on, whatever anybody writes is filled. Raises `NotNow`."""
        with self._primary.connect() as connection:

            def work() -> None:
                checkpoint.make(connection)
                state = checkpoint.read(connection, shape.name, lock=True)
                if state is not None and state.stage not in ("filling", "aborted"):
                    return
                if state is not None and state.stage == "filling" and state.fingerprint != shape.fingerprint:
                    raise NotNow("the plan describes it otherwise than when it began: abort it first")
                connection.execute(statements.function(shape, reversed_=False))
                connection.execute(statements.trigger(shape))
                for comment in statements.comments(shape, "new columns follow the old ones"):
                    connection.execute(comment)
                checkpoint.begin(connection, shape)

            _patient(connection, shape.table, self._lock_timeout, work, self._pause)

    def compare(self, shape: Shape) -> Difference:
        """Every row, in one look; nothing is changed and nobody waits."""
        with self._primary.connect() as connection:
            found = connection.execute(statements.compared(shape)).fetchone()
            assert found is not None
            rows, wrong, back, null = found
            keys = connection.execute(statements.wrong(shape, KEYS)).fetchall() if wrong or back or null else []
        return Difference(rows, wrong, back, null, tuple(tuple(key) for key in keys))

    def cut_over(self, shape: Shape, *, required: bool) -> None:
        """The new columns are what counts from here on: complete, and where there is a way back, the old ones follow
        them. Raises `NotNow`; then nobody is refused a row because of it.
        """
        required = required and self._stage(shape.name) == "filled"
        with self._primary.connect() as connection, self._checked(shape) if required else nullcontext():

            def work() -> None:
                state = checkpoint.read(connection, shape.name, lock=True)
                if state is None or state.stage not in ("filled", "cut over", "contracted"):
                    raise NotNow(
                        f"{shape.name} is {state.stage if state else 'not begun'}: only what is filled is cut over"
                    )
                if state.stage != "filled":
                    return
                for one in statements.not_null(shape) if required else ():
                    connection.execute(one)
                said = "new columns follow the old ones"
                if shape.reverse.columns:
                    connection.execute(statements.function(shape, reversed_=True))
                    said = "old columns follow the new ones"
                connection.execute(statements.comments(shape, said)[0])
                checkpoint.to_stage(connection, shape.name, "cut over")

            _patient(connection, shape.table, self._lock_timeout, work, self._pause)

    @contextmanager
    def _checked(self, shape: Shape) -> Iterator[None]:
        """No row is NULL while the body runs. Of a body that fails nothing stays, which would refuse others' rows."""
        try:
            for one in statements.check(shape):
                self._change(shape.table, [one])
            yield
        except BaseException as error:
            self._change(shape.table, [statements.drop_check(shape.name, shape.table)])
            if isinstance(error, psycopg.errors.CheckViolation):
                columns = ", ".join(shape.forward.columns)
                raise NotNow(f"{shape.table} has rows without a value in {columns}: compare names them") from None
            raise

    def is_over(self, shape: Shape) -> bool:
        """Whether it was cut over."""
        return self._stage(shape.name) in ("cut over", "contracted")

    def contract(self, name: str, move: DataMigration, keep_seconds: float) -> None:
        """Removes what kept the way back open. Raises `NotNow` before its time."""
        with self._primary.connect() as connection:

            def work() -> None:
                state = checkpoint.read(connection, name, lock=True)
                if state is None or state.stage not in ("cut over", "contracted"):
                    raise NotNow(f"{name} is {state.stage if state else 'not begun'}: it was never cut over")
                if state.stage == "contracted":
                    return
                if (left := keep_seconds - state.cut_over_seconds) > 0:
                    raise NotNow(f"{name} was cut over too lately: the way back is kept for {left:.0f} s more")
                for one in statements.remove(name, move.table):
                    connection.execute(one)
                if move.drop:
                    connection.execute(statements.drop_columns(move.table, move.drop))
                checkpoint.to_stage(connection, name, "contracted")

            _patient(connection, move.table, self._lock_timeout, work, self._pause)

    def abort(self, name: str, table: str) -> None:
        """Before the cutover: nothing is filled any more. Columns stay, with what is in them. Raises `NotNow`."""
        with self._primary.connect() as connection:

            def work() -> None:
                state = checkpoint.read(connection, name, lock=True)
                if state is None or state.stage in ("cut over", "contracted"):
                    raise NotNow(f"{name} is {state.stage if state else 'not begun'}: there is nothing to abort")
                for one in statements.remove(name, table):
                    connection.execute(one)
                checkpoint.to_stage(connection, name, "aborted")

            _patient(connection, table, self._lock_timeout, work, self._pause)

    def _stage(self, name: str) -> str:
        with self._primary.connect() as connection:
            state = checkpoint.read(connection, name)
            return state.stage if state else ""

    def _change(self, table: str, changes: Sequence[Composed]) -> None:
        with self._primary.connect() as connection:

            def work() -> None:
                for one in changes:
                    connection.execute(one)

            _patient(connection, table, self._lock_timeout, work, self._pause)
