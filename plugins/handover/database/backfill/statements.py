"""The SQL of a data migration. Pure: every name is quoted, every key is a literal of its column's type.

The plan's expressions stand in parentheses, as `handover.database.backfill.checked` has seen them. A column is compared
by its image (``*<>``), so a type needs no operator for it, and NULL is a value like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from handover.database import catalog
from handover.database.backfill.shape import Key, Shape, Side, guard
from handover.models.table_name import split

SETTING = "handover.data_migration"
MARK = "Made by handover for the data migration"
"""How the comment of a trigger or function of ours begins."""


def _list(parts: Iterable[Composable]) -> Composed:
    return SQL(", ").join(parts)


def _names(names: Iterable[str], before: str = "") -> Composed:
    return _list(Identifier(before, name) if before else Identifier(name) for name in names)


def expressions(columns: Mapping[str, str]) -> list[Composable]:
    return [SQL("({})").format(SQL(text)) for text in columns.values()]


def differs(side: Side) -> Composed:
    """True of a row whose columns are not what their expressions say."""
    typed = _list(
        SQL("{}::{}").format(expression, SQL(side.types[name]))
        for name, expression in zip(side.columns, expressions(side.columns), strict=True)
    )
    return SQL("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record").format(_names(side.columns), typed)


def _bound(shape: Shape, key: Key) -> Composed:
    typed = [
        SQL("{}::{}").format(Literal(value), SQL(column.type)) for column, value in zip(shape.key, key, strict=True)
    ]
    return SQL("({})").format(_list(typed))


def within(shape: Shape, after: Key | None, up_to: Key) -> Composed:
    """The rows of a batch."""
    columns = SQL("({})").format(_names(one.name for one in shape.key))
    upper = SQL("{} <= {}").format(columns, _bound(shape, up_to))
    return upper if after is None else SQL("{} > {} AND {}").format(columns, _bound(shape, after), upper)


def _key_as_text(shape: Shape) -> Composed:
    return _list(SQL("{}::text").format(Identifier(one.name)) for one in shape.key)


def _ordered(shape: Shape, how: str, *before: str) -> Composed:
    """``before``: the table's alias, else a result of the same name (its text!) would be what is ordered by."""
    return _list(SQL("{} {}").format(Identifier(*before, one.name), SQL(how)) for one in shape.key)


def edge(shape: Shape, how: str) -> Composed:
    """The first (``ASC``) or last (``DESC``) key."""
    return SQL("SELECT {} FROM {} AS t ORDER BY {} LIMIT 1").format(
        _key_as_text(shape), catalog.identifier(shape.table), _ordered(shape, how, "t")
    )


def bound(shape: Shape, after: Key | None, up_to: Key, rows: int) -> Composed:
    """The key of the last row of the next batch of so many rows; none where fewer are left."""
    return SQL("SELECT {} FROM {} AS t WHERE {} ORDER BY {} OFFSET {} LIMIT 1").format(
        _key_as_text(shape), catalog.identifier(shape.table), within(shape, after, up_to), _ordered(shape, "ASC", "t"),
        Literal(rows - 1),
    )  # fmt: skip


def fill(shape: Shape, after: Key | None, up_to: Key) -> Composed:
    """One batch: rows that are right already are left alone."""
    side = shape.forward
    pairs = zip(side.columns, expressions(side.columns), strict=True)
    return SQL("UPDATE {} SET {} WHERE {} AND {}").format(
        catalog.identifier(shape.table), _list(SQL("{} = {}").format(Identifier(n), e) for n, e in pairs),
        within(shape, after, up_to), differs(side),
    )  # fmt: skip


def wrong(shape: Shape, side: Side, after: Key | None, up_to: Key, most: int) -> Composed:
    """How many rows of a range differ, and the keys of the first of them."""
    return SQL(
        "SELECT count(*), (array_agg(ARRAY[{}] ORDER BY {}))[1:{}] FROM {} WHERE {} AND {}"
    ).format(
        _key_as_text(shape), _ordered(shape, "ASC"), Literal(most), catalog.identifier(shape.table),
        within(shape, after, up_to), differs(side),
    )  # fmt: skip


def _from_new(shape: Shape, side: Side) -> Composed:
    """Assigns its columns in a trigger. Only what is read is named: a column that is dropped later is none of it."""
    reads = [SQL("{} AS {}").format(Identifier("new", name), Identifier(name)) for name in side.reads]
    return SQL("SELECT {} INTO {} FROM (SELECT {}) AS {};").format(
        _list(expressions(side.columns)), _names(side.columns, "new"), _list(reads or [SQL("1")]),
        Identifier(split(shape.table)[1]),
    )  # fmt: skip


def _same(names: Iterable[str]) -> Composed:
    columns = list(names)
    return SQL("ROW({})::record OPERATOR(pg_catalog.*=) ROW({})::record").format(
        _names(columns, "new"), _names(columns, "old")
    )


def _forward(shape: Shape) -> Composed:
    return SQL("BEGIN {} RETURN NEW; END").format(_from_new(shape, shape.forward))


def _both(shape: Shape) -> Composed:
    """From the new columns to the old ones; of a writer that knows only the old ones, as before."""
    unset = SQL(" AND ").join(SQL("{} IS NULL").format(Identifier("new", name)) for name in shape.forward.columns)
    forward, reverse = _from_new(shape, shape.forward), _from_new(shape, shape.reverse)
    return SQL(
        "BEGIN IF TG_OP = 'INSERT' THEN IF {unset} THEN {forward} ELSE {reverse} END IF;"
        " ELSIF NOT ({same_new}) THEN {reverse} ELSIF NOT ({same_old}) THEN {forward} END IF; RETURN NEW; END"
    ).format(
        unset=unset, forward=forward, reverse=reverse, same_new=_same(shape.forward.columns),
        same_old=_same(shape.forward.reads) if shape.forward.reads else SQL("true"),
    )  # fmt: skip


def function(shape: Shape, *, reversed_: bool) -> Composed:
    """Makes the trigger's function, or replaces it, which no reader or writer waits for."""
    body = _both(shape) if reversed_ else _forward(shape)
    text = "#variable_conflict use_column\n" + body.as_string(None)
    return SQL(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS {}"
    ).format(Identifier(shape.schema, shape.guard), Literal(text))


def trigger(shape: Shape) -> Composed:
    """The trigger. What our own batches write needs it only where triggers of the service change the row as well."""
    unless: Composable = SQL("")
    if not shape.fires:
        unless = SQL("WHEN (pg_catalog.current_setting({}, true) IS DISTINCT FROM {})").format(
            Literal(SETTING), Literal(shape.name)
        )
    return SQL(
        "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW {} EXECUTE FUNCTION {}()"
    ).format(Identifier(shape.guard), catalog.identifier(shape.table), unless, Identifier(shape.schema, shape.guard))


def comments(shape: Shape, stage: str) -> tuple[Composed, Composed]:
    said = Literal(f"{MARK} {shape.name}: {stage}")
    return (
        SQL("COMMENT ON FUNCTION {}() IS {}").format(Identifier(shape.schema, shape.guard), said),
        SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
            Identifier(shape.guard), catalog.identifier(shape.table), said
        ),
    )  # fmt: skip


def drop_trigger(name: str, table: str) -> tuple[Composed, Composed]:
    mine = guard(name)
    return (
        SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(mine), catalog.identifier(table)),
        SQL("DROP FUNCTION IF EXISTS {}()").format(Identifier(split(table)[0], mine)),
    )


def add(table: str, columns: Mapping[str, str]) -> Composed:
    """New columns, which may be NULL: no row is rewritten."""
    parts = [
        SQL("ADD COLUMN IF NOT EXISTS {} {}").format(Identifier(name), SQL(kind)) for name, kind in columns.items()
    ]
    return SQL("ALTER TABLE {} {}").format(catalog.identifier(table), _list(parts))


def drop_columns(table: str, columns: Iterable[str]) -> Composed:
    """Refused by PostgreSQL while a view or a function of SQL reads one of them."""
    parts = [SQL("DROP COLUMN IF EXISTS {} RESTRICT").format(Identifier(name)) for name in columns]
    return SQL("ALTER TABLE {} {}").format(catalog.identifier(table), _list(parts))


def require(shape: Shape) -> tuple[Composed, ...]:
    """NOT NULL without a stall, each a transaction of its own and nothing the second time: only the second reads rows,
    and it stops nobody.
    """
    table, check = catalog.identifier(shape.table), Identifier(f"{shape.guard}_check")
    columns = list(shape.forward.columns)
    filled = SQL(" AND ").join(SQL("{} IS NOT NULL").format(Identifier(name)) for name in columns)
    change = SQL("ALTER TABLE {} {}")
    return (
        change.format(table, SQL("DROP CONSTRAINT IF EXISTS {}, ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(
            check, check, filled)),
        change.format(table, SQL("VALIDATE CONSTRAINT {}").format(check)),
        change.format(table, _list(SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(name)) for name in columns)),
        change.format(table, SQL("DROP CONSTRAINT {}").format(check)),
    )  # fmt: skip
