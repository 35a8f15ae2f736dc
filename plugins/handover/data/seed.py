"""Fills a new database with the rows of ``include/seed/<file>``: all of them, or none.

A database that has rows already is never added to. When every seeded row is there as configured, nothing is left to do.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from handover.adapters import sequences
from handover.adapters.postgres import cause
from handover.data.checks import NO_EQUALITY
from handover.data.passwords import PasswordHash
from handover.models import table_name
from handover.plan.parts import ColumnName, ConnectionId, Section, TableName, included
from handover.plan.text import from_yaml

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

MIGRATIONS_TABLE = "_prisma_migrations"
MANY_ROWS = 1000
SHOWN = 10
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relname <> %s AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                                      AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname <> 'public', 1, 2
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attidentity = 'a' OR a.attgenerated <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
Scalar = str | int | float | bool | datetime.datetime | datetime.date | None
Given = dict[str, str | None]
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


Value = PasswordOf | FoundColumn | Scalar


class SeedTable(Section):
    """``key``: the columns that name a row."""

    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    rows: Annotated[tuple[dict[ColumnName, Value], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rows_have_their_keys(self) -> SeedTable:
        keys = [tuple(row.get(name) for name in self.key) for row in self.rows]
        for number, key in enumerate(keys, 1):
            if any(not isinstance(part, str | int | datetime.date) for part in key):
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
        return Seed.model_validate(from_yaml(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
            connection.execute("SET LOCAL timezone = 'UTC'")
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('pms seed', 0))")
            occupied = _occupied(connection)
            planting = _Planting(connection, seed, secret)
            if not occupied:
                return Seeded({table: planting.insert(table) for table in seed.tables})
            if not (wrong := [fault for table in seed.tables for fault in planting.faults(table)]):
                return Seeded({})
    except psycopg.Error as error:
        raise SeedError(f"the database refuses the seed: {error.diag.message_primary or cause(error)}") from None
    shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    there = ", ".join(f"{table}: {many(rows)} rows" for table, rows in occupied.items())
    raise SeedError(
        f"nothing was changed: only an empty database is seeded, and this one has rows ({there}) "
        f"other than the seed's: {shown}"
    )


def many(rows: int) -> str:
    return f"more than {MANY_ROWS}" if rows > MANY_ROWS else str(rows)


def _occupied(connection: Connection[Any]) -> dict[str, int]:
    """Tables that have rows, and how many: at most one more than `MANY_ROWS`."""
    from psycopg.sql import SQL, Identifier

    count = SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS rows")
    found = {}
    for name in connection.execute(_TABLES, (MIGRATIONS_TABLE,)).fetchall():
        row = connection.execute(count.format(Identifier(*name), MANY_ROWS + 1)).fetchone()
        if row and row[0]:
            found[table_name.written(*name)] = int(row[0])
    return found


class _Planting:
    """One seed on its way into one database."""

    def __init__(self, connection: Connection[Any], seed: Seed, secret: Secret) -> None:
        self._connection, self._seed, self._secret = connection, seed, secret
        self._types = {table: self._types_of(table) for table in seed.tables}

    def _types_of(self, table: str) -> dict[str, str]:
        found = self._connection.execute(_COLUMNS, table_name.split(table)).fetchall()
        types = {name: sql_type for name, sql_type, _ in found}
        if not types:
            raise SeedError(f"there is no table {table}: migrate the database first")
        used = {name for row in self._rows(table) for name in row}
        if made := sorted(name for name, _, makes in found if makes and name in used):
            raise SeedError(
                f"the table {table} makes {', '.join(made)} itself (GENERATED ALWAYS): take it out of the seed"
            )
        if unknown := sorted(used - types.keys()):
            raise SeedError(f"the table {table} has no column {', '.join(unknown)}; is its schema that of the seed?")
        return types

    def _rows(self, table: str) -> Sequence[Mapping[str, Value]]:
        """Those of the seed; none for a table that it only finds rows of."""
        return self._seed.tables[table].rows if table in self._seed.tables else ()

    def insert(self, table: str) -> int:
        """Gives the number of rows. The service's next keys are free ones."""
        from psycopg.sql import SQL, Identifier

        for row in self._seed.tables[table].rows:
            given: Given = {}
            names = SQL(", ").join(map(Identifier, row))
            values = SQL(", ").join([self._sql(table, name, value, given) for name, value in row.items()])
            into = SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier(*table_name.split(table)), names, values)
            self._connection.execute(into, given)
        columns = {name for row in self._seed.tables[table].rows for name in row}
        sequences.move_past(self._connection, table_name.split(table), columns)
        return len(self._seed.tables[table].rows)

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
        found = self._connection.execute(query, given).fetchone()
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
        text = SQL("::text" if NO_EQUALITY.fullmatch(self._types[table][name]) else "")
        wanted = self._sql(table, name, value, given)
        return SQL("{}{} IS NOT DISTINCT FROM {}{}").format(Identifier(name), text, wanted, text)

    def _is_same(self, value: Value, seen: Any) -> bool:
        if isinstance(value, PasswordOf):
            return self._hash.fits(self._password(value), str(seen))
        return bool(seen)

    def _sql(self, table: str, name: str, value: Value, given: Given) -> Composed:
        """The value as SQL. What it is goes to ``given``, the statement's parameters: servers log statements."""
        from psycopg.sql import SQL, Identifier

        if isinstance(value, FoundColumn):
            types = self._types.get(value.table) or self._types_of(value.table)
            where = [SQL("{} = {}").format(Identifier(n), _given(v, types[n], given)) for n, v in value.where.items()]
            source = Identifier(*table_name.split(value.table))
            return SQL("(SELECT {} FROM {} WHERE {})").format(Identifier(value.take), source, SQL(" AND ").join(where))
        plain = self._hash.make(self._password(value)) if isinstance(value, PasswordOf) else value
        return _given(plain, self._types[table][name], given)

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


def _given(value: Scalar, sql_type: str, given: Given) -> Composed:
    from psycopg.sql import SQL, Placeholder

    name = f"value{len(given)}"
    given[name] = None if value is None else str(value)
    zoneless = re.fullmatch(r"timestamp(\(\d\))? without time zone", sql_type)
    text = "CAST(CAST({} AS timestamp with time zone) AS {})" if zoneless else "CAST({} AS {})"  # it is UTC
    return SQL(text).format(Placeholder(name), SQL(sql_type))
