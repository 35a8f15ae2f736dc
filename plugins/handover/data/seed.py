"""Fills a new database with the rows of ``include/seed/<file>``: all of them, or none.

A database that has rows already is never added to. When every seeded row is there as configured, nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from handover.adapters import sequences
from handover.adapters.postgres import cause
from handover.data import as_written
from handover.data.columns import columns_of, search_path
from handover.data.ledgers import LEDGERS
from handover.data.passwords import PasswordHash
from handover.models import table_name
from handover.plan.parts import ColumnName, ConnectionId, Section, TableName, included
from handover.plan.text import TwiceThere

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable, Composed

    from handover.data.targets import Target

MANY_ROWS = 1000
SHOWN = 10
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relname <> ALL (%s) AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                                      AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname <> 'public', 1, 2
"""
Scalar = str | int | float | bool | None
"""In a file everything is text, as it is written there."""
Given = list[str | None]
"""A statement's parameters."""
Secret = Callable[[str], str]
"""Gives the password of a connection by its id."""


class SeedError(Exception):
    """Nothing was seeded; the text says why and what to do."""


class PasswordOf(Section):
    password_of: ConnectionId


class FoundColumn(Section):
    """A column of another row, most often its id."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    take: ColumnName
    table: TableName = Field(alias="from")
    where: Annotated[dict[ColumnName, Scalar], Field(min_length=1)]


def _no_collection(value: Any) -> Any:
    if isinstance(value, list) or (isinstance(value, dict) and not value.keys() & {"password_of", "take"}):
        raise ValueError("a list or a map is no value: write JSON, or an array, in quotes, as PostgreSQL reads it")
    return value


Value = Annotated[PasswordOf | FoundColumn | Scalar, BeforeValidator(_no_collection)]


class SeedTable(Section):
    """``key``: the columns that name a row."""

    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    rows: Annotated[tuple[dict[ColumnName, Value], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rows_have_their_keys(self) -> SeedTable:
        keys = [tuple(row.get(name) for name in self.key) for row in self.rows]
        for number, key in enumerate(keys, 1):
            if any(not isinstance(part, str | int) for part in key):
                raise ValueError(f"row {number} has no plain value for its key {', '.join(self.key)}")
            if key in keys[: number - 1]:
                raise ValueError(f"row {number} has the key of an earlier row: {key}")
        return self


class Seed(Section):
    """What a new database begins with; tables in the order in which they are filled."""

    password_hash: PasswordHash | None = None
    tables: Annotated[dict[TableName, SeedTable], Field(min_length=1)]

    @model_validator(mode="after")
    def _passwords_can_be_hashed(self) -> Seed:
        values = [value for table in self.tables.values() for row in table.rows for value in row.values()]
        if self.password_hash is None and any(isinstance(value, PasswordOf) for value in values):
            raise ValueError("password_hash is missing: how does the service hash passwords?")
        return self


@dataclass(frozen=True)
class Seeded:
    """Rows of each table that were inserted; none when everything was there already."""

    inserted: dict[str, int]


def load_seed(path: Path) -> Seed:
    """Raises `SeedError` that names file, key and reason."""
    try:
        return Seed.model_validate(as_written.read(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TwiceThere) as error:
        raise SeedError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise SeedError("\n".join([f"{path}:", *faults])) from None


def seed_file(name: str) -> Path:
    return included("seed", name)


def plant(connection: Connection[Any], seed: Seed, secret: Secret) -> Seeded:
    """Fills the database, in one transaction. Raises `SeedError` unless it is empty, or already as configured."""
    import psycopg

    try:
        with connection.transaction():
            _settle(connection, seed)
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('pms seed', 0))")
            occupied = _occupied(connection)
            planting = _Planting(connection, seed, secret)
            if not occupied:
                return Seeded({table: planting.insert(table) for table in seed.tables})
            if not (wrong := [fault for table in seed.tables for fault in planting.faults(table)]):
                return Seeded({})
    except psycopg.Error as error:
        raise SeedError(f"the database refuses the seed: {cause(error)}") from None
    shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    there = ", ".join(f"{table}: {many(rows)} rows" for table, rows in occupied.items())
    raise SeedError(
        f"nothing was changed: only an empty database is seeded, and this one has rows ({there}) "
        f"other than the seed's: {shown}"
    )


def _settle(connection: Connection[Any], seed: Seed) -> None:
    """Settings that end with the transaction."""
    values = [value for table in seed.tables.values() for row in table.rows for value in row.values()]
    tables = [*seed.tables, *(value.table for value in values if isinstance(value, FoundColumn))]
    settings = {
        "timezone": "UTC", "datestyle": "ISO, YMD", "search_path": search_path(connection, dict.fromkeys(tables))
    }  # fmt: skip
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))


def many(rows: int) -> str:
    return f"more than {MANY_ROWS}" if rows > MANY_ROWS else str(rows)


def _occupied(connection: Connection[Any]) -> dict[str, int]:
    """Tables that have rows, and how many: at most one more than `MANY_ROWS`."""
    from psycopg.sql import SQL, Identifier

    count = SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS rows")
    found = {}
    for name in connection.execute(_TABLES, (list(LEDGERS),)).fetchall():
        row = connection.execute(count.format(Identifier(*name), MANY_ROWS + 1)).fetchone()
        if row and row[0]:
            found[table_name.written(*name)] = int(row[0])
    return found


class _Planting:
    """One seed on its way into one database."""

    def __init__(self, connection: Connection[Any], seed: Seed, secret: Secret) -> None:
        from psycopg import RawCursor

        self._connection, self._seed, self._secret = connection, seed, secret
        self._cursor = RawCursor(connection)  # a % in a name is no placeholder to it
        self._targets = {table: self._targets_of(table) for table in seed.tables}

    def _targets_of(self, table: str) -> dict[str, Target]:
        targets = columns_of(self._connection, table)
        if not targets:
            raise SeedError(f"there is no table {table}: migrate the database first")
        used = {name for row in self._rows(table) for name in row}
        if made := sorted(name for name in used & targets.keys() if targets[name].makes):
            raise SeedError(
                f"the table {table} makes {', '.join(made)} itself (GENERATED ALWAYS): take it out of the seed"
            )
        if unknown := sorted(used - targets.keys()):
            raise SeedError(f"the table {table} has no column {', '.join(unknown)}; is its schema that of the seed?")
        return targets

    def _rows(self, table: str) -> Sequence[Mapping[str, Value]]:
        """Those of the seed; none for a table that it only finds rows of."""
        return self._seed.tables[table].rows if table in self._seed.tables else ()

    def insert(self, table: str) -> int:
        """Gives the number of rows. The service's next keys are free ones."""
        from psycopg.sql import SQL, Identifier

        rows = self._seed.tables[table].rows
        for number, row in enumerate(rows, 1):
            self._check(table, number, row)
            given = Given()
            names = SQL(", ").join(map(Identifier, row))
            values = SQL(", ").join([self._sql(table, name, value, given) for name, value in row.items()])
            into = SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier(*table_name.split(table)), names, values)
            self._cursor.execute(into, given)
        columns = {name for row in rows for name in row}
        sequences.move_past(self._connection, table_name.split(table), columns)
        return len(rows)

    def _check(self, table: str, number: int, row: Mapping[str, Value]) -> None:
        """Whether the columns hold what is written, and what the row refers to is there."""
        from psycopg.sql import SQL

        given = Given()
        questions: list[tuple[str, Composable]] = []
        for name, value in row.items():
            target = self._targets[table][name]
            if isinstance(value, FoundColumn):
                said = f"there is no {value.take} for {name} in {value.table}"
                questions.append((said, SQL("{} IS NOT NULL").format(self._sql(table, name, value, given))))
            elif kept := target.keeps(_given(self._plain(value), given)):
                questions.append((f"{name} is {target.type}, which would round or cut the value", kept))
            else:
                given.pop()
        if not questions:
            return
        query = SQL("SELECT {}").format(SQL(", ").join(question for _, question in questions))
        found = self._cursor.execute(query, given).fetchone() or ()
        if wrong := [said for (said, _), fine in zip(questions, found, strict=True) if fine is False]:
            raise SeedError(f"nothing was changed: {table}, row {number}: {'; '.join(wrong)}")

    def faults(self, table: str) -> list[str]:
        """Rows of the seed that are not in the table as configured; shows no values but keys."""
        return [fault for row in self._seed.tables[table].rows if (fault := self._fault(table, row))]

    def _fault(self, table: str, row: dict[str, Value]) -> str:
        from psycopg.sql import SQL, Identifier

        key, given = self._seed.tables[table].key, Given()
        where = [SQL("{} = {}").format(Identifier(n), self._sql(table, n, row[n], given)) for n in key]
        columns = [self._same(table, name, value, given) for name, value in row.items()]
        query = SQL("SELECT {} FROM {} WHERE {}").format(
            SQL(", ").join(columns), Identifier(*table_name.split(table)), SQL(" AND ").join(where)
        )
        found = self._cursor.execute(query, given).fetchone()
        name = f"{table} {', '.join(f'{column}={row[column]}' for column in key)}"
        if found is None:
            return f"{name} is missing"
        verdicts = zip(row.items(), found, strict=True)
        other = [column for (column, value), seen in verdicts if not self._is_same(value, seen)]
        return f"{name} has another {', '.join(other)}" if other else ""

    def _same(self, table: str, name: str, value: Value, given: Given) -> Composed:
        """Whether a column has its value; of a password the hash itself, since each hash is another."""
        from psycopg.sql import SQL, Identifier

        if isinstance(value, PasswordOf):
            return SQL("{}").format(Identifier(name))
        text = self._targets[table][name].compared_as
        wanted = self._sql(table, name, value, given)
        return SQL("{}{} IS NOT DISTINCT FROM {}{}").format(Identifier(name), text, wanted, text)

    def _is_same(self, value: Value, seen: Any) -> bool:
        if isinstance(value, PasswordOf):
            return self._hash.fits(self._password(value), str(seen))
        return bool(seen)

    def _sql(self, table: str, name: str, value: Value, given: Given) -> Composable:
        """The value as SQL. What it is goes to ``given``, the statement's parameters: servers log statements."""
        from psycopg.sql import SQL, Identifier

        if isinstance(value, FoundColumn):
            targets = self._targets.get(value.table) or self._targets_of(value.table)
            if unknown := sorted(value.where.keys() - targets.keys()):
                raise SeedError(
                    f"the table {value.table} has no column {', '.join(unknown)}, which {table}.{name} names"
                )
            where = [
                SQL("{} = {}").format(Identifier(n), targets[n].cast(_given(v, given))) for n, v in value.where.items()
            ]
            source = Identifier(*table_name.split(value.table))
            return SQL("(SELECT {} FROM {} WHERE {})").format(Identifier(value.take), source, SQL(" AND ").join(where))
        return self._targets[table][name].cast(_given(self._plain(value), given))

    def _plain(self, value: PasswordOf | Scalar) -> Scalar:
        return self._hash.make(self._password(value)) if isinstance(value, PasswordOf) else value

    @property
    def _hash(self) -> PasswordHash:
        assert self._seed.password_hash is not None
        return self._seed.password_hash

    def _password(self, value: PasswordOf) -> str:
        if not (password := self._secret(value.password_of)):
            raise SeedError(
                f"the connection {value.password_of} has no password: set it, then run this again; nothing was changed"
            )
        return password


def _given(value: Scalar, given: Given) -> Composed:
    """The value as text."""
    from psycopg.sql import SQL

    given.append(None if value is None else str(value))
    return SQL("CAST({} AS text)").format(SQL(f"${len(given)}"))
