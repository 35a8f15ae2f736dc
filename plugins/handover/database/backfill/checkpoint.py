"""What is kept of each data migration, in a table beside those that it changes: so it is theirs after a failover, too.

A worker claims one by raising its generation. Its batches lock the row, so that they and a claim, a pause or an abort
come one after the other, and whoever shows an older generation changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from handover.database.backfill.shape import Key, Shape

if TYPE_CHECKING:
    from psycopg import Connection

TABLE = "public.handover_data_migrations"
Stage = Literal["filling", "filled", "cut over", "contracted", "aborted"]
_MAKE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    name text PRIMARY KEY, table_name text NOT NULL, fingerprint text NOT NULL, stage text NOT NULL,
    paused text NOT NULL DEFAULT '', generation bigint NOT NULL DEFAULT 0, owner text NOT NULL DEFAULT '',
    checkpoint text[], last_key text[], passed bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0,
    filled bigint NOT NULL DEFAULT 0, batches bigint NOT NULL DEFAULT 0, batch_size int,
    begun_at timestamptz NOT NULL DEFAULT now(), cut_over_at timestamptz, changed_at timestamptz NOT NULL DEFAULT now()
)
"""
_COLUMNS = (
    "stage, paused, generation, checkpoint, last_key, passed, total, filled, batches, batch_size, fingerprint,"
    " coalesce(extract(epoch FROM now() - cut_over_at), 0)::float8"
)
_LOCK = 4_201_337_001


class Superseded(Exception):
    """Another worker has it by now, or it is over: this one changes nothing more."""


class Paused(Exception):
    """Somebody has paused it."""


@dataclass(frozen=True)
class State:
    """``passed`` of ``total`` are keys or rows, as its batches count; ``filled``: rows that were changed."""

    stage: Stage
    paused: str
    generation: int
    checkpoint: Key | None
    last_key: Key | None
    passed: int
    total: int
    filled: int
    batches: int
    batch_size: int | None
    fingerprint: str
    cut_over_seconds: float


def make(connection: Connection[Any]) -> None:
    """The table, unless it is there. Call in a transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    if not _there(connection):
        connection.execute(_MAKE.encode())


def _there(connection: Connection[Any]) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (TABLE,)).fetchone()
    return bool(found and found[0])


def read(connection: Connection[Any], name: str, *, lock: bool = False) -> State | None:
    """None when it never began. ``lock``: nobody else changes it before the transaction ends."""
    if not _there(connection):
        return None
    query = f"SELECT {_COLUMNS} FROM {TABLE} WHERE name = %s {'FOR UPDATE' if lock else ''}"  # noqa: S608
    row = connection.execute(query.encode(), (name,)).fetchone()
    return None if row is None else _state(row)


def _state(row: Any) -> State:
    stage, paused, generation, checkpoint, last, *more = row
    return State(stage, paused, generation, checkpoint and tuple(checkpoint), last and tuple(last), *more)


def begin(connection: Connection[Any], shape: Shape) -> None:
    """Writes down that it begins; one that is under way goes on, one that was given up begins anew."""
    connection.execute(
        f"INSERT INTO {TABLE} (name, table_name, fingerprint, stage) VALUES (%s, %s, %s, 'filling')"  # noqa: S608
        " ON CONFLICT (name) DO UPDATE SET table_name = excluded.table_name, fingerprint = excluded.fingerprint,"
        " stage = 'filling', paused = '', checkpoint = NULL, last_key = NULL, passed = 0, total = 0, filled = 0,"
        f" batches = 0, begun_at = now(), cut_over_at = NULL WHERE {TABLE}.stage = 'aborted'".encode(),
        (shape.name, shape.table, shape.fingerprint),
    )


def claim(connection: Connection[Any], name: str, owner: str) -> State:
    """Makes it this worker's; whoever had it is fenced out. Raises `Superseded` when there is nothing to claim."""
    query = f"UPDATE {TABLE} SET generation = generation + 1, owner = %s WHERE name = %s RETURNING {_COLUMNS}"  # noqa: S608
    row = connection.execute(query.encode(), (owner, name)).fetchone()
    if row is None:
        raise Superseded(f"{name} never began, or its table {TABLE} was emptied")
    return _state(row)


def again(connection: Connection[Any], state: State, name: str) -> State | None:
    """Goes through all rows once more, if it is as it was; None when it is not."""
    query = (
        f"UPDATE {TABLE} SET stage = 'filling', checkpoint = NULL, last_key = NULL, passed = 0, total = 0,"  # noqa: S608
        f" changed_at = now() WHERE name = %s AND stage = 'filled' AND generation = %s RETURNING {_COLUMNS}"
    )
    row = connection.execute(query.encode(), (name, state.generation)).fetchone()
    return None if row is None else _state(row)


def set_range(connection: Connection[Any], name: str, last_key: Key | None, total: int) -> None:
    """Where it ends: rows of later keys are the trigger's."""
    connection.execute(
        f"UPDATE {TABLE} SET last_key = %s, total = %s WHERE name = %s".encode(),  # noqa: S608
        (list(last_key) if last_key else None, total, name),
    )


def hold(connection: Connection[Any], name: str, generation: int) -> State:
    """First in the transaction of a batch. Raises `Superseded` or `Paused`."""
    state = read(connection, name, lock=True)
    if state is None or state.generation != generation or state.stage != "filling":
        is_now = "gone" if state is None else f"{state.stage}, generation {state.generation}"
        raise Superseded(f"{name} is not this worker's any more: it is {is_now}, this one had generation {generation}")
    if state.paused:
        raise Paused(state.paused)
    return state


def advance(connection: Connection[Any], name: str, up_to: Key, passed: int, filled: int, size: int) -> None:
    """Last in the transaction of a batch, which holds it."""
    connection.execute(
        f"UPDATE {TABLE} SET checkpoint = %s, passed = passed + %s, filled = filled + %s, batches = batches + 1,"  # noqa: S608
        " batch_size = %s, changed_at = now() WHERE name = %s".encode(),
        (list(up_to), passed, filled, size, name),
    )


def to_stage(connection: Connection[Any], name: str, stage: Stage) -> None:
    """The next stage; whoever still fills it is fenced out."""
    connection.execute(
        f"UPDATE {TABLE} SET stage = %s, generation = generation + 1, changed_at = now(),"  # noqa: S608
        " cut_over_at = CASE WHEN %s = 'cut over' THEN now() ELSE cut_over_at END WHERE name = %s".encode(),
        (stage, stage, name),
    )


def pause(connection: Connection[Any], name: str, why: str) -> bool:
    """Or goes on, with ``why`` empty. False when it never began."""
    if not _there(connection):
        return False
    query = f"UPDATE {TABLE} SET paused = %s, changed_at = now() WHERE name = %s"  # noqa: S608
    return connection.execute(query.encode(), (why, name)).rowcount == 1
