"""The tables, indices, views and sequences of a copy, by PostgreSQL's number, as they are before a script runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection

_RELATIONS = """
SELECT c.oid, c.relkind::text, pg_catalog.pg_relation_filenode(c.oid), n.nspname, c.relname,
       tn.nspname, t.relname, t.relkind::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S', 'i', 'I')
"""


@dataclass(frozen=True)
class Relation:
    """``table``: itself, or the table that an index is of; ``file``: where its rows lie, if it has any of its own."""

    name: str
    table: str
    is_index: bool
    writable: bool
    file: int | None

    @property
    def text(self) -> str:
        return f"{self.table} (its index {self.name})" if self.is_index else self.name

    @property
    def holds_rows(self) -> bool:
        return self.writable and not self.is_index


def known(connection: Connection[Any], histories: Collection[str]) -> dict[int, Relation]:
    """All but the tables of these names, in which migrations are written down. What is made later no client knows."""
    found = {}
    for number, kind, file, schema, name, table_schema, table, table_kind in connection.execute(_RELATIONS):
        own = table_name.written(schema, name)
        of = table_name.written(table_schema, table) if table else own
        if (table or name) not in histories:
            found[number] = Relation(own, of, bool(table), (table_kind or kind) in ("r", "p"), file)
    return found
