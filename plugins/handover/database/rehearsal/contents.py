"""What a copy's schema and data are, so that two moments of it can be compared by names and never by rows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from handover.adapters import sequences
from handover.adapters.messages import printed
from handover.adapters.postgres import Database, server_major
from handover.database import catalog, tools
from handover.database.digest import Digest, content_digests
from handover.database.rehearsal import rights
from handover.models import table_name

DUMP_SECONDS = 300
_HEADER = re.compile(r"^-- Name: (?P<name>.+); Type: (?P<type>.+?); Schema: (?P<schema>.+); Owner: ?.*$")
_NOT_NULL = re.compile(r'\bCONSTRAINT (?:"(?:[^"]|"")+"|\S+) (?=NOT NULL\b)')
"""The name that a column's NOT NULL has since PostgreSQL 18: one that was dropped and set again has another one."""
_BETWEEN = ("\\restrict ", "\\unrestrict ", "SET default_tablespace ", "SET default_table_access_method ")
"""How lines begin that are of no object; the key of ``\\restrict`` is drawn for each dump."""


class SchemaUnreadable(Exception):
    """pg_dump could not read a copy's schema."""


@dataclass(frozen=True)
class Contents:
    """``schema``: the lines that define each object, by its kind and name; ``data``: by table; ``sequences``: where
    they stand; ``numbers`` and ``granted``: see `handover.database.rehearsal.rights`.
    """

    schema: Mapping[str, tuple[str, ...]]
    data: Mapping[str, Digest]
    sequences: Mapping[sequences.Name, sequences.Position]
    numbers: Mapping[str, int]
    granted: frozenset[str]


def look(database: Database, histories: Collection[str]) -> Contents:
    """Of all but the tables of these names, in which migrations are written down. Raises `SchemaUnreadable`."""
    found = schema(database, histories)
    with database.connect() as connection:
        tables = [table for table in catalog.tables(connection) if table_name.split(table)[1] not in histories]
        return Contents(
            found, content_digests(connection, tables), sequences.positions(connection), rights.numbers(connection),
            rights.granted(connection),
        )  # fmt: skip


def schema(database: Database, histories: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Raises `SchemaUnreadable`. The order of columns is no difference: what is made again comes last."""
    with database.connect() as connection:
        major, broken = server_major(connection), catalog.invalid_indices(connection)
    command = [
        tools.program("pg_dump", major), "--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces",
        "--no-password", *(f"--exclude-table=*.{name}" for name in histories),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, env=database.environment(), timeout=DUMP_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SchemaUnreadable(f"pg_dump has not told the schema within {DUMP_SECONDS} s") from None
    if done.returncode:
        raise SchemaUnreadable(f"pg_dump ended with {done.returncode}: {printed(done.stderr)}")
    found: dict[str, list[str]] = {}
    for name, line in _lines(done.stdout.decode("utf-8", "surrogateescape")):
        found.setdefault(name, []).append(line)
    invalid = {f"INVALID INDEX {name}": ("",) for name in broken}
    return {name: tuple(sorted(of) if name.startswith("TABLE ") else of) for name, of in found.items()} | invalid


def _lines(dump: str) -> Iterator[tuple[str, str]]:
    """The lines that define something, each with what it is of."""
    name = ""
    for line in dump.splitlines():
        if header := _HEADER.match(line):
            name = f"{header['type']} {header['schema']}.{header['name']}".replace(" -.", " ")
        elif name and line.rstrip("-") and not line.startswith(_BETWEEN):
            said = line.rstrip(",")
            yield name, _NOT_NULL.sub("", said) if name.startswith("TABLE ") else said


def schema_differences(before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]]) -> list[str]:
    """In words, by names; empty when it is the same schema."""
    found = [f"{name} is gone" for name in sorted(before.keys() - after.keys())]
    found += [f"{name} is left behind" for name in sorted(after.keys() - before.keys())]
    changed = sorted(name for name in before if after.get(name, before[name]) != before[name])
    return found + [f"{name} is another one" for name in changed]


def differences(before: Contents, after: Contents, granted: Collection[str] = ()) -> list[str]:
    """The same, the tables whose rows differ, sequences that were set back, and rights that are lost. A table that is
    gone or new is told by its schema.

    :param granted: names of what others have rights on in production
    """
    found = schema_differences(before.schema, after.schema)
    for table, was in before.data.items():
        now = after.data.get(table)
        if now and now.rows != was.rows:
            found.append(f"{table} has {now.rows} rows instead of {was.rows}")
        elif now and now != was:
            found.append(f"rows of {table} hold other values")
    for name, stood in before.sequences.items():
        stands = after.sequences.get(name)
        if stands and (stands.given - stood.given) * stood.increment < 0:
            found.append(f"the sequence {table_name.written(*name)} gives numbers again that it gave before")
    return found + rights.lost(before.numbers, after.numbers, {*granted, *before.granted}, after.granted)
