"""The SQL of a data migration. Pure: every name is quoted, every key is a literal of its column's type.

The plan's expressions stand in parentheses, as `handover.database.backfill.checked` has seen them. A column is compared
by its image (``*<>``), so a type needs no operator for it, and NULL is a value like others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from handover.database import catalog
from handover.database.backfill.shape import Key, Order, Shape, Side, guard
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


def _operator(which: tuple[str, str]) -> Composed:
    schema, sign = which
    return SQL("OPERATOR({}.{})").format(Identifier(schema), SQL(sign))


@dataclass(frozen=True)
class _Part:
    """One column of a key, and its value."""

    column: Identifier
    value: Composed
    order: Order

    def is_(self, which: str) -> Composed:
        """``which``: an operator of its `Order`."""
        return SQL("{} {} {}").format(self.column, _operator(getattr(self.order, which)), self.value)


def _parts(shape: Shape, key: Key) -> list[_Part]:
    return [
        _Part(Identifier(column.name), SQL("{}::{}").format(Literal(value), SQL(column.type)), order)
        for column, value, order in zip(shape.key, key, shape.orders, strict=True)
    ]


def _all(conditions: Iterable[Composable]) -> Composed:
    return SQL(" AND ").join(conditions)


def _mixed(shape: Shape) -> bool:
    """Whether the key's columns have operators of different names or schemas: then no key can be compared whole."""
    return len(set(shape.orders)) > 1


def _beside(parts: list[_Part], last: str, strict: str) -> Composed:
    """The rows on one side of a key; ``last``, ``strict``: operators for the last column and for others."""
    if len({part.order for part in parts}) == 1:
        operator = _operator(getattr(parts[0].order, last))
        return SQL("({}) {} ({})").format(_list(p.column for p in parts), operator, _list(p.value for p in parts))
    found = parts[-1].is_(last)
    for part in parts[-2::-1]:
        found = SQL("({} OR {} AND {})").format(part.is_(strict), part.is_("equal"), found)
    return _all([parts[0].is_("not_above" if strict == "below" else "not_below"), found])  # the first is for the index


def within(shape: Shape, after: Key | None, up_to: Key) -> Composed:
    """The rows of a batch."""
    upper = _parts(shape, up_to)
    if after is None:
        return _beside(upper, "not_above", "below")
    lower, same = _parts(shape, after), 0
    while _mixed(shape) and same < len(after) - 1 and after[same] == up_to[same]:
        same += 1
    return _all([
        *(part.is_("equal") for part in upper[:same]), _beside(lower[same:], "above", "above"),
        _beside(upper[same:], "not_above", "below"),
    ])  # fmt: skip


def _key_as_text(shape: Shape) -> Composed:
    return _list(SQL("{}::text").format(Identifier(one.name)) for one in shape.key)


def _ordered(shape: Shape, how: Callable[[Order], tuple[str, str]] = attrgetter("below")) -> Composed:
    """Of the table ``t``: without it a result of the same name (its text!) would be what is ordered by."""
    return _list(
        SQL("{} USING {}").format(Identifier("t", one.name), _operator(how(order)))
        for one, order in zip(shape.key, shape.orders, strict=True)
    )


def first(shape: Shape) -> Composed:
    """The first key."""
    return _edge(shape, _ordered(shape))


def last(shape: Shape) -> Composed:
    """The last key."""
    return _edge(shape, _ordered(shape, attrgetter("above")))


def _edge(shape: Shape, ordered: Composed) -> Composed:
    return SQL("SELECT {} FROM {} AS t ORDER BY {} LIMIT 1").format(
        _key_as_text(shape), catalog.identifier(shape.table), ordered
    )


def bound(shape: Shape, after: Key | None, up_to: Key, rows: int) -> Composed:
    """The key of the last row of the next batch of so many rows; none where fewer are left."""
    if after is None or not _mixed(shape):
        ranges = [within(shape, after, up_to)]
    else:  # the rest of each column's own group, which an index finds where it does not find them all at once
        parts, end = _parts(shape, after), _beside(_parts(shape, up_to), "not_above", "below")
        ranges = [
            _all([*(part.is_("equal") for part in parts[:n]), part.is_("above"), end]) for n, part in enumerate(parts)
        ]
    one = SQL("(SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {})")
    names, table = _names(part.name for part in shape.key), catalog.identifier(shape.table)
    found = SQL(" UNION ALL ").join(
        one.format(names, table, range_, _ordered(shape), Literal(rows)) for range_ in ranges
    )
    return SQL("SELECT {} FROM ({}) AS t ORDER BY {} OFFSET {} LIMIT 1").format(
        _key_as_text(shape), found, _ordered(shape), Literal(rows - 1)
    )


def fill(shape: Shape, after: Key | None, up_to: Key) -> Composed:
    """One batch: rows that are right already are left alone."""
    side = shape.forward
    pairs = zip(side.columns, expressions(side.columns), strict=True)
    return SQL("UPDATE {} SET {} WHERE {} AND {}").format(
        catalog.identifier(shape.table), _list(SQL("{} = {}").format(Identifier(n), e) for n, e in pairs),
        within(shape, after, up_to), differs(side),
    )  # fmt: skip


def compared(shape: Shape) -> Composed:
    """How many rows there are, how many of them differ on the way there and on the way back, and how many have NULL
    where none may be: of every row in one look, whatever its key.
    """
    counts = [
        SQL("count(*) FILTER (WHERE {})").format(one)
        for one in (_wrong(shape.forward), _wrong(shape.reverse), _null(shape))
    ]
    return SQL("SELECT count(*), {} FROM {}").format(_list(counts), catalog.identifier(shape.table))


def wrong(shape: Shape, most: int) -> Composed:
    """The keys of the first of these rows. They are found first and ordered then, since they may be few."""
    any_ = SQL(" OR ").join([_wrong(shape.forward), _wrong(shape.reverse), _null(shape)])
    return SQL("SELECT {} FROM (SELECT {} FROM {} WHERE {} OFFSET 0) AS t ORDER BY {} LIMIT {}").format(
        _key_as_text(shape), _names(one.name for one in shape.key), catalog.identifier(shape.table), any_,
        _ordered(shape), Literal(most),
    )  # fmt: skip


def _wrong(side: Side) -> Composable:
    return differs(side) if side.columns else SQL("false")


def _null(shape: Shape) -> Composable:
    """Rows whose expression itself gives no value where one is required."""
    if not shape.required:
        return SQL("false")
    null = SQL(" OR ").join(SQL("{} IS NULL").format(Identifier(name)) for name in shape.forward.columns)
    return SQL("({}) AND NOT {}").format(null, differs(shape.forward))


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


def remove(name: str, table: str) -> tuple[Composed, ...]:
    """Everything of ours but the columns."""
    mine = guard(name)
    return (
        drop_check(name, table),
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


def check(shape: Shape) -> tuple[Composed, ...]:
    """That no row is NULL from here on, each a transaction of its own and nothing the second time: only the second
    reads rows, and it stops nobody.
    """
    table, mine = catalog.identifier(shape.table), _check(shape.name)
    filled = SQL(" AND ").join(SQL("{} IS NOT NULL").format(Identifier(name)) for name in shape.forward.columns)
    return (
        SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}, ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(
            table, mine, mine, filled),
        SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, mine),
    )  # fmt: skip


def not_null(shape: Shape) -> tuple[Composed, ...]:
    """What the check has proved, which takes its place; no row is read."""
    columns = _list(SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(name)) for name in shape.forward.columns)
    return (
        SQL("ALTER TABLE {} {}").format(catalog.identifier(shape.table), columns), drop_check(shape.name, shape.table)
    )  # fmt: skip


def drop_check(name: str, table: str) -> Composed:
    return SQL("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}").format(catalog.identifier(table), _check(name))


def _check(name: str) -> Identifier:
    return Identifier(f"{guard(name)}_check")
