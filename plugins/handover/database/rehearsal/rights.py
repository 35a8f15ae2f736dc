"""What others than its owner may do with a relation or a function: whatever is made again has lost that.

A copy has no rights, so production is asked for which of its objects they are lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

_OBJECTS = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.oid, c.relowner AS owner, c.relnamespace AS schema,
       CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END AS kind,
       array_cat(c.relacl, (SELECT array_agg(one) FROM pg_attribute a, unnest(a.attacl) one
                            WHERE a.attrelid = c.oid)) AS acl
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.oid, p.proowner,
       p.pronamespace, 'f', p.proacl
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_GRANTED = f"""
SELECT o.name FROM ({_OBJECTS}) o WHERE EXISTS (SELECT FROM aclexplode(o.acl) g WHERE g.grantee NOT IN (o.owner, 0))
AND NOT EXISTS (SELECT FROM pg_default_acl d WHERE d.defaclrole = o.owner AND d.defaclobjtype::text = o.kind
                AND d.defaclnamespace IN (0, o.schema))
"""  # noqa: S608 - what default privileges give is given again to what is made again


def granted(connection: Connection[Any]) -> frozenset[str]:
    """Names of what a role other than its owner has rights on."""
    return frozenset(row[0] for row in connection.execute(_GRANTED.encode()))


def numbers(connection: Connection[Any]) -> dict[str, int]:
    """PostgreSQL's number of each, by name: what is made again has another one."""
    return dict(connection.execute(f"SELECT o.name, o.oid FROM ({_OBJECTS}) o".encode()).fetchall())  # noqa: S608


def lost(before: Mapping[str, int], after: Mapping[str, int], had: Collection[str], has: Collection[str]) -> list[str]:
    """In words. ``had``: names of what had rights of others; ``has``: likewise, now."""
    return [
        f"{name} is made again, and what others may do with it (GRANT) is gone"
        for name in sorted(had)
        if name in before and name in after and before[name] != after[name] and name not in has
    ]
