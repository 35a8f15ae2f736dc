"""Who holds a table that a migration changes and will not let go of it soon: a dump, a long or a prepared transaction.

A migration that asks for such a table's lock gets it from nobody, and everybody else waits behind it until it gives up.
So it does not ask. Which tables it changes is told by their names in its statements, also within texts such as the body
of DO; a name that is there for something else makes one wait too often and never too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.migrations import SqlFile

LONG_SECONDS = 30.0
"""A transaction that has been open for so long may stay for as long again."""
_ROWS_ONLY = {"INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "VALUES", "WITH", "TABLE", "SET", "RESET", "SHOW"}
"""First words of statements that take no lock which a reader or writer of rows would keep from them."""
_NAME, _QUOTED = re.compile(r"[^\W\d][\w$]*"), re.compile(r'"((?:[^"]|"")+)"')
_BLOCKERS = """
WITH RECURSIVE named AS (
    SELECT c.oid, i.indrelid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    WHERE c.relname = ANY (%(names)s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), changed (oid) AS (
    SELECT unnest(ARRAY[oid, indrelid]) FROM named
    UNION SELECT h.inhrelid FROM pg_catalog.pg_inherits h JOIN changed p ON p.oid = h.inhparent
)
SELECT format('%%s is held by %%s', string_agg(DISTINCT l.relation::regclass::text, ', '), CASE
    WHEN l.pid IS NULL THEN format('the prepared transaction %%L', min(p.gid))
    ELSE format('process %%s (%%s) for %%s s', l.pid,
                coalesce(nullif(min(a.application_name), ''), min(a.backend_type)),
                coalesce(extract(epoch FROM clock_timestamp() - min(a.xact_start))::int::text, 'nobody knows how many'))
    END)
FROM pg_catalog.pg_locks l
JOIN changed ON changed.oid = l.relation
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
    AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND (l.pid IS NULL OR a.application_name ~ 'pg_dump'
       OR a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s))
GROUP BY l.pid, l.virtualtransaction ORDER BY 1
"""


def blockers(connection: Connection[Any], files: Iterable[SqlFile], seconds: float = LONG_SECONDS) -> list[str]:
    """Who holds what these files change, in words; empty when nobody does for long.

    :param seconds: from how old on a transaction is a long one; a dump and a prepared transaction always are
    """
    names = sorted({name for file in files for name in _named(file)})
    return [row[0] for row in connection.execute(_BLOCKERS, {"names": names, "seconds": seconds})]


def _named(file: SqlFile) -> Iterator[str]:
    """Whatever may be the name of a table, an index or a view."""
    for statement in file.parsed:
        if statement.words[0] not in _ROWS_ONLY:
            for token in statement.tokens:
                yield from _names(token)


def _names(token: str) -> Iterator[str]:
    """As PostgreSQL keeps them: in lower case unless they are quoted."""
    if token.startswith('"'):
        yield token[1:-1].replace('""', '"')
    elif token[0] in "$'" or "'" in token:  # a text may be SQL, quoted names and all
        yield from (quoted.replace('""', '"') for quoted in _QUOTED.findall(token))
        yield from (word.lower() for word in _NAME.findall(token))
    else:
        yield token.lower()
