"""Who holds a table that a migration changes and will not let go of it soon: a dump, a long or a prepared transaction.

A migration that asks for such a table's lock gets it from nobody, and everybody else waits behind it until it gives up.
So it does not ask; autovacuum alone can be made to go. Which tables it changes is told by their names in its
statements, also within texts such as the body of DO; a name that is there for something else makes one wait too often
and never too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.migrations import SqlFile
    from handover.database.statements import Statement

LONG_SECONDS = 30.0
"""A transaction that has been open for so long may stay for as long again."""
_ROWS_ONLY = {"INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "VALUES", "WITH", "TABLE", "SET", "RESET", "SHOW"}
"""First words of statements that take no lock which a reader or writer of rows would keep from them."""
_OF_TYPES = (("ALTER", "DOMAIN"), ("DROP", "DOMAIN"), ("DROP", "TYPE"))
_NAME, _QUOTED = re.compile(r"[^\W\d][\w$]*"), re.compile(r'"((?:[^"]|"")+)"')
_CHANGED = """
WITH RECURSIVE named AS (
    SELECT c.oid, i.indrelid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    WHERE c.relname = ANY (%(names)s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), changed (oid) AS (
    SELECT unnest(ARRAY[oid, indrelid]) FROM named
    UNION SELECT unnest(ARRAY[f.conrelid, f.confrelid]) FROM pg_catalog.pg_constraint f
    JOIN named ON named.oid IN (f.conrelid, f.confrelid) WHERE f.contype = 'f' AND %(dropping)s
    UNION SELECT a.attrelid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm') WHERE t.typname = ANY (%(types)s)
    UNION SELECT h.inhrelid FROM pg_catalog.pg_inherits h JOIN changed p ON p.oid = h.inhparent
)
"""
_HERE = """l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
"""
_BLOCKERS = f"""{_CHANGED}
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
WHERE {_HERE}
  AND (a.backend_type = 'autovacuum worker' AND a.query !~ 'to prevent wraparound') IS NOT TRUE
  AND (l.pid IS NULL OR a.application_name ~ 'pg_dump'
       OR a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s))
GROUP BY l.pid, l.virtualtransaction ORDER BY 1
"""  # noqa: S608 - of texts that stand here
_IN_WORK = f"""{_CHANGED}
SELECT DISTINCT n.nspname, c.relname
FROM pg_catalog.pg_locks l
JOIN changed ON changed.oid = l.relation
JOIN pg_catalog.pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {_HERE} AND l.mode = 'ShareUpdateExclusiveLock'
"""  # noqa: S608
_WAIT = """
SELECT set_config('lock_timeout', (least(setting::int, 10000) + 500)::text || 'ms', true)
FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'
"""
"""PostgreSQL takes a table from autovacuum for whoever has waited for it for so long."""


def blockers(connection: Connection[Any], files: Iterable[SqlFile], seconds: float = LONG_SECONDS) -> list[str]:
    """Who holds what these files change, in words; empty when nobody does for long.

    :param seconds: from how old on a transaction is a long one; a dump and a prepared transaction always are
    """
    return [row[0] for row in connection.execute(_BLOCKERS, {**_changed(files), "seconds": seconds})]


def make_way(connection: Connection[Any], tables: Iterable[str] = (), files: Iterable[SqlFile] = ()) -> None:
    """Has autovacuum go from tables of these names, and from what these files change.

    PostgreSQL cancels it for whoever has waited for a second, and a change of ours gives up before that, lest others
    wait behind it: it would never get in. So the table is asked for first in a mode behind which neither readers nor
    writers wait. Whoever else vacuums, or makes an index beside them, is let alone. Not within a transaction.
    """
    from psycopg import errors, sql

    kept = (errors.LockNotAvailable, errors.UndefinedTable, errors.InsufficientPrivilege)  # or not ours
    asked = _changed(files)
    for place in connection.execute(_IN_WORK, {**asked, "names": [*tables, *asked["names"]]}).fetchall():
        lock = sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(*place))
        with suppress(*kept), connection.transaction():
            connection.execute(_WAIT)
            connection.execute(lock)


def _changed(files: Iterable[SqlFile]) -> dict[str, Any]:
    """Whatever may be the name of a table, an index or a view that these files change, or of a type whose tables they
    change; and whether anything is dropped, which locks both ends of a foreign key.
    """
    changing = [one for file in files for one in file.parsed if one.words[0] not in _ROWS_ONLY]
    typed = [one for one in changing if one.words[:2] in _OF_TYPES]
    return {"names": _all(changing), "types": _all(typed), "dropping": any("DROP" in one.words for one in changing)}


def _all(statements: Iterable[Statement]) -> list[str]:
    return sorted({name for one in statements for token in one.tokens for name in _names(token)})


def _names(token: str) -> Iterator[str]:
    """As PostgreSQL keeps them: in lower case unless they are quoted."""
    if token.startswith('"'):
        yield token[1:-1].replace('""', '"')
    elif token[0] in "$'" or "'" in token:  # a text may be SQL, quoted names and all
        yield from (quoted.replace('""', '"') for quoted in _QUOTED.findall(token))
        yield from (word.lower() for word in _NAME.findall(token))
    else:
        yield token.lower()
