"""A change of many rows that PostgreSQL may refuse for some of them: these stay out, all others are changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover.adapters import postgres

if TYPE_CHECKING:
    import psycopg
    from psycopg import Connection
    from psycopg.sql import Composed

Rows = Sequence[str]
"""Rows by their places in a table (``ctid``)."""
MOST = 100
"""So many are looked for one by one; where more are refused, what was not tried by then stays out, too."""
_OF_A_ROW = ("22", "23", "P0")
_OF_A_TABLE = (*_OF_A_ROW, "0A", "42", "44", "54", "55")
_TAKEN = ("23505", "23P01")
_WAITED = "55P03"


@dataclass
class Refused:
    """Rows that stay out. ``why``: what PostgreSQL said of the last one, without its values; ``taken``: others have
    what each of them would have."""

    rows: list[str] = field(default_factory=list)
    why: str = ""
    taken: bool = True

    def add(self, rows: Rows, error: psycopg.Error) -> None:
        self.rows += rows
        self.why = why(error)
        self.taken = self.taken and error.sqlstate in _TAKEN

    def join(self, other: Refused) -> None:
        self.rows += other.rows
        self.why, self.taken = other.why or self.why, self.taken and other.taken


def why(error: psycopg.Error) -> str:
    """What PostgreSQL said, without values; what a function of the service says may quote them."""
    raised = (error.sqlstate or "").startswith("P0")
    return "a function of the service refuses it" if raised else postgres.cause(error)


def of_a_table(error: psycopg.Error) -> bool:
    """Whether it says that this change cannot be made, and not that now is no time for any."""
    return error.sqlstate != _WAITED and (error.sqlstate or "").startswith(_OF_A_TABLE)


def change(
    connection: Connection[Any], statement: Callable[..., Composed], which: Composed, refused: Refused,
    instead: Callable[[], int | None] | None = None,
) -> int:  # fmt: skip
    """Changes all rows at once, or where PostgreSQL refuses that, those it does not refuse; gives how many.

    ``statement``: with a place ``part`` for a condition that picks some of the rows ``r``; ``which``: their places;
    ``instead``: another way, for rows that have each other's values.
    """
    import psycopg
    from psycopg import sql

    try:
        with connection.transaction():
            return connection.execute(statement(part=sql.SQL(""))).rowcount
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(_OF_A_ROW):
            raise
        first = error
    if instead and first.sqlstate in _TAKEN and (done := instead()) is not None:
        if left := _places(connection, which):
            refused.add(left, first)
        return done

    def some(rows: Rows) -> int:
        part = sql.SQL("AND r.ctid = ANY ({}::tid[])").format(sql.Literal(list(rows)))
        return connection.execute(statement(part=part)).rowcount

    done, rows = 0, _places(connection, which)
    while True:  # a value may be free once another row has its own again
        again = Refused()
        found = _changed(connection, rows, some, again)
        done, rows = done + found, again.rows[::-1]
        if not found or not rows:
            break
    refused.join(again)
    return done


def _places(connection: Connection[Any], which: Composed) -> list[str]:
    return [row[0] for row in connection.execute(which)]


def _changed(connection: Connection[Any], rows: Rows, change: Callable[[Rows], int], refused: Refused) -> int:
    """How many rows were changed, the first half of them before the other. Raises what is about no single row."""
    import psycopg

    if not rows:
        return 0
    if len(refused.rows) >= MOST:
        refused.rows += rows
        return 0
    try:
        with connection.transaction():
            return change(rows)
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(_OF_A_ROW):
            raise
        if len(rows) == 1:
            refused.add(rows, error)
            return 0
    middle = len(rows) // 2
    return sum(_changed(connection, half, change, refused) for half in (rows[:middle], rows[middle:]))
