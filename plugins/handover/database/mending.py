"""Mends one table of a repair (`handover.database.repair`): what is gone comes back, what was changed is changed back.

What cannot be mended is left as it is and named, by numbers and never by values.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from handover.adapters import sequences
from handover.database import aside, catalog, fitting, parts
from handover.database.aside import Hook
from handover.database.catalog import Column
from handover.database.damage import Table, listed, number, typed
from handover.database.parts import Refused
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable, Composed


@dataclass(frozen=True)
class Repaired:
    """What was done to one table. ``left``: what is not as it was, for a person to look at."""

    name: str
    inserted: int = 0
    not_inserted: int = 0
    updated: int = 0
    filled: int = 0
    left: str = ""
    said: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        found = {"put back": self.inserted, "in the way of rows to put back": self.not_inserted}
        return found | {"set to the backup's values": self.updated, "with filled columns": self.filled}

    @property
    def changed(self) -> bool:
        return bool(self.left) or any(self.numbers.values())

    @property
    def text(self) -> str:
        done = [f"{number} rows {what}" for what, number in self.numbers.items() if number]
        return f"{self.name}: {', '.join(part for part in (*done, self.said, self.left) if part) or 'as it was'}"


@dataclass(frozen=True)
class Work:
    """A table as it is after ``down.sql``, and what is stood aside while it is mended."""

    table: Table
    now: tuple[Column, ...]
    own: Composable
    fit: fitting.Fit
    owned: bool
    damaged: bool = False
    hooks: tuple[Hook, ...] = ()
    identities: tuple[str, ...] = ()
    """Columns that are GENERATED ALWAYS, whose values nobody may set else."""
    unsecured: bool = False
    """It was made again without the row security that it had, and people would see rows that policies hid from them."""
    plain: bool = False
    """It has what forbids to ask on INSERT whether a place is taken: rules, or uniqueness that is checked late."""
    referenced: bool = False

    @property
    def writable(self) -> dict[str, Column]:
        """The backup's columns that can be written."""
        there = {column.name: column for column in self.now if not column.computed}
        return {c.name: there[c.name] for c in self.table.columns if c.name in there}

    @property
    def values(self) -> list[str]:
        """Those whose values tell whether a row was changed."""
        return [name for name in self.writable if name not in (*self.table.key, *self.fit.unsure)]

    @property
    def made_again(self) -> list[str]:
        """Lost columns that ``down.sql`` has made, not renamed."""
        numbers = {column.number for column in self.table.now}
        return [n for n, c in self.writable.items() if n in self.table.lost and c.number not in numbers]

    @property
    def missing(self) -> list[str]:
        there = {column.name for column in self.now}
        return [column.name for column in self.table.columns if column.name not in there]

    @property
    def keyed(self) -> bool:
        return bool(self.table.key) and not set(self.table.key) & set(self.missing)

    def sql(self, text: str, **names: Composable) -> Composed:
        """As `Table.sql`, and ``{own}``: the table without those that inherit from it."""
        return self.table.sql(text, own=self.own, **names)

    def count(self, connection: Connection[Any], text: str, **names: Composable) -> int:
        """How many rows a query has."""
        return number(connection, self.sql("SELECT count(*) FROM ({it}) AS it", it=self.sql(text, **names)))


_SPECIAL = """
SELECT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = %(it)s::oid AND rulename <> '_RETURN')
    OR EXISTS (SELECT FROM pg_index WHERE indrelid = %(it)s::oid AND NOT indimmediate),
    EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
            AND confrelid IN (SELECT %(it)s::oid UNION SELECT relid FROM pg_partition_tree(%(it)s::oid)))
"""


def prepare(connection: Connection[Any], table: Table) -> Work:
    """Looks whether there is anything to mend, and what would be in the way."""
    now = tuple(catalog.columns(connection, table.name))
    plain, referenced = connection.execute(_SPECIAL, {"it": catalog.find(connection, table.name)}).fetchone() or (1, 1)
    bare = Work(
        table, now, catalog.own_rows(connection, table.name), fitting.unfold(connection, table, now),
        owned=catalog.owned(connection, table.name), plain=bool(plain), referenced=bool(referenced),
        unsecured=table.gone and table.secured and not catalog.secured(connection, table.name),
    )  # fmt: skip
    query = _absent(bare)
    if table.marked:
        query += table.sql(" UNION ALL SELECT FROM {mine} UNION ALL SELECT FROM {nulls}")
    damaged = bool(bare.made_again or bare.count(connection, "{it} LIMIT 1", it=query))
    always = tuple(name for name, column in bare.writable.items() if column.always and name not in table.key)
    hooks = tuple(aside.hooks(connection, table.name)) if damaged else ()
    identities = always if damaged and bare.owned and table.key and not table.gone else ()
    return Work(**{**vars(bare), "damaged": damaged, "hooks": hooks, "identities": identities})


def _absent(work: Work) -> Composed:
    """The backup's rows that are not in the table."""
    if work.keyed:
        return work.sql("SELECT FROM {rows} r WHERE NOT EXISTS (SELECT FROM {own} t WHERE {same})")
    columns = listed(list(work.writable), "{}::text")
    return work.sql("SELECT FROM (SELECT {c} FROM {rows} EXCEPT ALL SELECT {c} FROM {own}) AS r", c=columns)


def stand_aside(connection: Connection[Any], work: Work) -> None:
    if work.owned:
        aside.take(connection, work.table.name, work.hooks, work.identities)


def stand_back(connection: Connection[Any], work: Work) -> None:
    if work.owned:
        aside.give_back(connection, work.table.name, work.hooks, work.identities)
    if work.unsecured:
        connection.execute(work.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))


def mend(connection: Connection[Any], work: Work) -> Repaired:
    table = work.table
    left = [f"its column {name} is gone, and no down.sql makes it again" for name in work.missing]
    if work.unsecured:
        left.append("it was made again without its policies: its row security is on, and nobody it binds sees a row")
    left += work.fit.told
    filled = updated = 0
    wrong = _wrong_columns(connection, work) if table.marked else []
    if work.keyed:
        inserted, not_inserted, told = _put_back(connection, work)
    else:
        inserted, not_inserted, told = _put_back_whole(connection, work)
    left += told
    refused = Refused()
    if table.marked and work.damaged:
        filled = _fill(connection, work, refused)
        filled += _set(connection, work, work.made_again, refused, only_mine=False)
        updated = _set(connection, work, work.values, refused, only_mine=True)
    if refused.rows:
        left.append(f"{len(set(refused.rows))} of its rows were not changed back: {refused.why}")
    if table.marked:
        left += _unclear(connection, work, wrong, lost=bool(inserted + not_inserted))
    elif work.keyed and not table.gone:
        left.append("its key was gone: rows that were changed cannot be told")
    sequences.move_past(connection, table_name.split(table.name), list(work.writable))
    return Repaired(table.name, inserted, not_inserted, updated, filled, "; ".join(left), _said(work))


def _said(work: Work) -> str:
    active = [hook for hook in work.hooks if hook.active]
    fired = "did not fire" if work.owned else "fired"
    parts_ = []
    for kind in ("TRIGGER", "RULE"):
        if names := sorted({hook.name for hook in active if hook.kind == kind}):
            parts_.append(f"its {kind.lower()}s {', '.join(names)} {fired}")
    return ", ".join(parts_)


def _put_back(connection: Connection[Any], work: Work) -> tuple[int, int, list[str]]:
    """Rows whose key is gone: how many were put back, how many could not be since others have their place, and what is
    to be told."""
    absent = work.count(connection, "{it}", it=_absent(work))
    if not absent:
        return 0, 0, []
    text = (
        "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {rows} r "
        "WHERE NOT EXISTS (SELECT FROM {own} t WHERE {same}) {part} {conflict}"
    )
    which = "SELECT r.ctid::text FROM {rows} r WHERE NOT EXISTS (SELECT FROM {own} t WHERE {same}) ORDER BY {key}"
    refused = Refused()
    statement = partial(work.sql, text, names=listed(list(work.writable)), conflict=_conflict(work))
    inserted = parts.change(connection, statement, work.sql(which), refused)
    others = 0 if refused.taken else len(refused.rows)
    taken = absent - inserted - others
    told = [f"{taken} rows did not come back: others have their place"] if taken else []
    told += [f"{others} rows did not come back: {refused.why}"] if others else []
    return inserted, taken, told


def _conflict(work: Work) -> Composable:
    from psycopg import sql

    return sql.SQL("" if work.plain else "ON CONFLICT DO NOTHING")


def _put_back_whole(connection: Connection[Any], work: Work) -> tuple[int, int, list[str]]:
    """The same in a table without a key, unless it has rows that the backup does not have: they may be lost ones,
    changed."""
    from psycopg import sql

    names = list(work.writable)
    columns = listed(names, "{}::text")
    absent = work.count(connection, "{it}", it=_absent(work))
    more = work.count(connection, "SELECT {c} FROM {own} EXCEPT ALL SELECT {c} FROM {rows}", c=columns)
    if absent and more:
        told = f"{absent} of its rows are gone or changed, and it has no key to find them by: look at it yourself"
        return 0, 0, [told]
    if not absent:
        mine = 0 if work.table.gone else work.count(connection, "SELECT FROM {mine_text}")
        return 0, 0, [_more(min(mine, more))] if min(mine, more) else []
    text = (
        "INSERT INTO {table} {names} SELECT {cast} FROM (SELECT {c} FROM {rows} EXCEPT ALL SELECT {c} FROM {own})"
        " AS r {named}"
    )
    inserted = connection.execute(
        work.sql(
            text, c=columns, cast=typed(list(work.writable.values())), named=sql.SQL("({})").format(listed(names)),
            names=sql.SQL("({}) OVERRIDING SYSTEM VALUE").format(listed(names)),
        ) if names else work.sql(text, c=columns, cast=columns, named=sql.SQL(""), names=sql.SQL(""))
    ).rowcount  # fmt: skip
    return inserted, absent - inserted, []


def _more(rows: int) -> str:
    return f"{rows} rows that the migration wrote are not in the backup, and stay"


def _of(what: str) -> str:
    """A row ``t`` is among the noted ones of a kind."""
    return f"EXISTS (SELECT FROM {{{what}}} m WHERE {{of_m}})"


def _of_m(work: Work) -> Composed:
    return listed(work.table.key, "m.{0} = t.{0}", " AND ")


_DIFFERS = "t.{0}::text IS DISTINCT FROM r.{0}::text"
"""Compared as text, since some types have no equality."""


def _set(connection: Connection[Any], work: Work, names: Sequence[str], refused: Refused, *, only_mine: bool) -> int:
    """Sets columns to the backup's values where they differ."""
    if not names:
        return 0
    where = work.sql("{same} AND ({differ}) AND " + (_of("mine") if only_mine else "true"),
                     differ=listed(names, _DIFFERS, " OR "), of_m=_of_m(work))  # fmt: skip
    statement = partial(
        work.sql, "UPDATE {own} t SET {sets} FROM {rows} r WHERE {where} {part}",
        sets=listed(names, "{0} = r.{0}"), where=where,
    )  # fmt: skip
    which = work.sql("SELECT r.ctid::text FROM {own} t, {rows} r WHERE {where} ORDER BY {keys_}", where=where,
                     keys_=listed(work.table.key, "r.{}"))  # fmt: skip
    free = work.owned and not work.referenced
    return parts.change(
        connection, statement, which, refused, partial(_out_and_in, connection, work, names, where) if free else None
    )


def _out_and_in(connection: Connection[Any], work: Work, names: Sequence[str], where: Composed) -> int | None:
    """The same where rows have each other's values, and nothing refers to them: they are taken out and put in again,
    as they were where others have the place. None, and nothing is done, if one could not be put in again."""
    import psycopg

    there = [column.name for column in work.now if not column.computed]
    into = "INSERT INTO {table} ({there}) OVERRIDING SYSTEM VALUE SELECT {from_} FROM {out} "
    with suppress(_Lost, psycopg.IntegrityError), connection.transaction():
        query = work.sql(
            "SELECT {there} FROM {own} t, {rows} r WHERE {where}", there=listed(there, "t.{}"), where=where
        )
        connection.execute(work.sql("CREATE TEMPORARY TABLE {out} ON COMMIT DROP AS {it}", it=query))
        out = connection.execute(work.sql("DELETE FROM {own} t USING {out} r WHERE {same}")).rowcount
        values = [listed([name], "r.{}" if name in names else "t.{}") for name in there]
        common = {"there": listed(there), "conflict": _conflict(work)}
        new = connection.execute(
            work.sql(into + "t JOIN {rows} r ON {same} {conflict}", from_=_comma(values), **common)
        ).rowcount
        back = work.sql(into + "r WHERE NOT EXISTS (SELECT FROM {own} t WHERE {same}) {conflict}",
                        from_=listed(there, "r.{}"), **common)  # fmt: skip
        old = connection.execute(back).rowcount
        connection.execute(work.sql("DROP TABLE {out}"))
        if new + old != out:
            raise _Lost
        return new
    return None


class _Lost(Exception):
    """A row that was taken out could not be put in again."""


def _comma(pieces: Sequence[Composed]) -> Composed:
    from psycopg import sql

    return sql.SQL(", ").join(pieces)


def _fill(connection: Connection[Any], work: Work, refused: Refused) -> int:
    """Sets required columns that were NULL, in rows that users have written since; the others are `_set`'s."""
    names = [name for name in work.table.required if name in work.writable]
    if not names:
        return 0
    where = work.sql("{same} AND NOT " + _of("mine"), of_m=_of_m(work))
    statement = partial(
        work.sql, "UPDATE {own} t SET {sets} FROM {rows} r JOIN {nulls} n USING ({key}) WHERE {where} {part}",
        sets=listed(names, "{0} = CASE WHEN n.{0} THEN r.{0} ELSE t.{0} END"), where=where,
    )  # fmt: skip
    which = work.sql("SELECT r.ctid::text FROM {own} t, {rows} r JOIN {nulls} n USING ({key}) WHERE {where}",
                     where=where)  # fmt: skip
    return parts.change(connection, statement, which, refused)


def _wrong_columns(connection: Connection[Any], work: Work) -> list[str]:
    """Columns that differ from the backup in rows that the migration wrote last."""
    names = [*work.values, *work.fit.unsure]
    if not names:
        return []
    wrong = listed(names, f"bool_or({_DIFFERS})")
    text = "SELECT {wrong} FROM {own} t JOIN {rows} r ON {same} WHERE {mine_}"
    query = work.sql(text, wrong=wrong, mine_=work.sql(_of("mine"), of_m=_of_m(work)))
    found = connection.execute(query).fetchone() or ()
    return [name for name, wrong in zip(names, found, strict=False) if wrong]


def _unclear(connection: Connection[Any], work: Work, wrong: Sequence[str], *, lost: bool) -> list[str]:
    """What a person has to look at, since PostgreSQL does not say whether a row was damaged or lost before somebody
    else wrote it: it holds another value where the migration has changed others, or has a key of one that is lost."""
    told = [
        f"its column {name} differs, and times of only one of both have a zone: look at it yourself"
        for name in work.fit.unsure
        if name in wrong
    ]
    if fresh := work.count(connection, "SELECT FROM {own} t WHERE " + _of("fresh"), of_m=_of_m(work)):
        told.append(_more(fresh))
    query = "SELECT FROM {own} t JOIN {rows} r ON {same} WHERE ({wrong}) AND " + _of("theirs")
    if not work.values:
        return told
    each, any_, every = (listed(names, _DIFFERS, how) for names, how in (
        (wrong, " OR "), (work.values, " OR "), (work.values, " AND ")))  # fmt: skip
    if work.table.emptied:
        if others := work.count(connection, query, wrong=any_, of_m=_of_m(work)):
            told.append(
                f"{others} rows differ, and were written since the migration, which left none of those before it"
            )
        return told
    suspected = [each] if wrong else []
    suspected += [work.sql("({every})", every=every)] if lost else []
    if suspected:
        others = work.count(connection, query, wrong=_or(suspected), of_m=_of_m(work))
        if others:
            told.append(f"{others} rows that others have written since the migration differ: look at them yourself")
    return told


def _or(conditions: Sequence[Composed]) -> Composed:
    from psycopg import sql

    return sql.SQL(" OR ").join(conditions)
