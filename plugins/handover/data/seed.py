"""Fills a new database with the rows of ``include/seed/<file>``: all of them, or none.

A database that has rows already is never added to. When every seeded row is there as configured, nothing is left to do.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from handover.data.passwords import PasswordHash
from handover.plan.parts import ConnectionId, Name, Section, included
from handover.plan.text import from_yaml

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

MIGRATIONS_TABLE = "_prisma_migrations"
MANY_ROWS = 1000
SHOWN = 10
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> %s ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
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
    take: Name
    table: Name = Field(alias="from")
    where: Annotated[dict[Name, Scalar], Field(min_length=1)]


Value = PasswordOf | FoundColumn | Scalar


class SeedTable(Section):
    """``key``: the columns that name a row."""

    key: Annotated[tuple[Name, ...], Field(min_length=1)]
    rows: Annotated[tuple[dict[Name, Value], ...], Field(min_length=1)]

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
    tables: Annotated[dict[Name, SeedTable], Field(min_length=1)]

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
    from psycopg import errors

    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('pms seed', 0))")
        occupied = _occupied(connection)
        planting = _Planting(connection, seed, secret)
        if not occupied:
            try:
                return Seeded({table: planting.insert(table) for table in seed.tables})
            except (errors.IntegrityError, errors.DataError, errors.CardinalityViolation) as error:
                raise SeedError(f"the database refuses the seed: {error.diag.message_primary}") from None
        if not (wrong := [fault for table in seed.tables for fault in planting.faults(table)]):
            return Seeded({})
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
    for (table,) in connection.execute(_TABLES, (MIGRATIONS_TABLE,)).fetchall():
        row = connection.execute(count.format(Identifier("public", table), MANY_ROWS + 1)).fetchone()
        if row and row[0]:
            found[table] = int(row[0])
    return found


class _Planting:
    """One seed on its way into one database."""

    def __init__(self, connection: Connection[Any], seed: Seed, secret: Secret) -> None:
        self._connection, self._seed, self._secret = connection, seed, secret
        self._types = {table: self._types_of(table) for table in seed.tables}

    def _types_of(self, table: str) -> dict[str, str]:
        types = dict(self._connection.execute(_COLUMNS, (f"public.{table}",)).fetchall())
        if not types:
            raise SeedError(f"there is no table {table}: migrate the database first")
        used = {name for row in self._seed.tables[table].rows for name in row}
        if unknown := sorted(used - types.keys()):
            raise SeedError(f"the table {table} has no column {', '.join(unknown)}; is its schema that of the seed?")
        return types

    def insert(self, table: str) -> int:
        from psycopg.sql import SQL, Identifier

        for row in self._seed.tables[table].rows:
            given: Given = {}
            names = SQL(", ").join(map(Identifier, row))
            values = SQL(", ").join([self._sql(table, name, value, given) for name, value in row.items()])
            into = SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier("public", table), names, values)
            self._connection.execute(into, given)
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
            SQL(", ").join(columns), Identifier("public", table), SQL(" AND ").join(where)
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
        return SQL("{} IS NOT DISTINCT FROM {}").format(Identifier(name), self._sql(table, name, value, given))

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
            source = Identifier("public", value.table)
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
    return SQL("CAST({} AS {})").format(Placeholder(name), SQL(sql_type))
