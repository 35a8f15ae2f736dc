"""Whether what the plan describes can be done, before anything is touched: the catalogue and PostgreSQL itself say so.

An expression is tried as that of a generated column of an empty temporary table like the real one: PostgreSQL then
refuses whatever is no function of the row alone, such as the time, a setting, another row or another table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import cause
from handover.database import catalog
from handover.database.backfill.shape import Order, Shape, Side, guard
from handover.database.statements import read
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.data_migrations import DataMigration

_FACTS = """
SELECT c.relkind, has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE'),
       pg_has_role(c.relowner, 'USAGE'), has_schema_privilege(c.relnamespace, 'CREATE'),
       EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AND c.relkind = 'r', pg_is_in_recovery(),
       has_schema_privilege('public', 'CREATE'), row_security_active(c.oid)
FROM pg_class c WHERE c.oid = %s::oid
"""
_UNIQUE = """
SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] FROM pg_index i
WHERE i.indrelid = %s::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY NOT i.indisprimary, i.indexrelid
"""
_ORDERS = """
SELECT DISTINCT k.column_number, m.amopstrategy, n.nspname, o.oprname FROM (
    SELECT indkey, indclass FROM pg_index i
    WHERE i.indrelid = %s::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (i.indkey::int2[])[0:i.indnkeyatts - 1] = %s::int2[] ORDER BY NOT i.indisprimary, i.indexrelid LIMIT 1
) i, unnest(i.indkey::int2[], i.indclass::oid[]) AS k (column_number, class)
JOIN pg_opclass c ON c.oid = k.class
JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoppurpose = 's' AND m.amoplefttype = c.opcintype
    AND m.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY 1, 2
"""
"""Of each column of the key what its index orders it by, from < to > as a B-tree counts them."""
_TRIGGERS = """
SELECT t.tgname, coalesce(' of ' || string_agg(DISTINCT c.relname, ', ')
                          FILTER (WHERE t.tgparentid = 0 AND c.oid <> %(table)s::oid), ''),
       bool_or(t.tgenabled IN ('O', 'A') AND t.tgtype & 2 <> 0 AND t.tgtype & 1 <> 0 AND t.tgtype & 20 <> 0),
       bool_or(t.tgenabled IN ('O', 'A') AND t.tgtype & 16 <> 0)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND (c.oid = %(table)s::oid
    OR t.tgtype & 1 <> 0 AND c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::oid)))
GROUP BY 1 ORDER BY 1
"""
"""Of the table, and those for each row of its partitions: name; of which partitions; whether it fires before rows are
written; whether it fires for an UPDATE.
"""
_RULES = """
SELECT rulename FROM pg_rewrite WHERE ev_class = %s::oid AND ev_type = '2' AND ev_enabled IN ('O', 'A') ORDER BY 1
"""
"""Which act for an UPDATE: those of the table that it names, not of partitions."""
_HAS_DEFAULT = "SELECT attname FROM pg_attribute WHERE attrelid = %s::oid AND atthasdef AND attgenerated = ''"
_MINE = """
SELECT coalesce(obj_description(p.oid, 'pg_proc'), '') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname = %s
"""
_READS = """
SELECT DISTINCT a.attname FROM pg_attrdef e
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE e.adrelid = %s::regclass AND d.refobjid = e.adrelid AND a.attgenerated = '' ORDER BY 1
"""
_DENSITY = """
SELECT sum(greatest(reltuples, 0))::float8 FROM pg_class WHERE relkind = 'r' AND oid IN (
    SELECT relid FROM pg_partition_tree(%(table)s::oid) UNION SELECT %(table)s::oid)
"""


class NotPossible(ValueError):
    """What the plan describes cannot be done; the text names table, column and reason, all of them."""


def shape(connection: Connection[Any], name: str, move: DataMigration, dense: float = 0.5) -> Shape:
    """Raises `NotPossible`. Changes nothing.

    :param name: of the data migration in this database
    :param dense: share of an integer key's range that has to be used for batches that are ranges of it
    """
    table = catalog.find(connection, move.table)
    if table is None:
        raise NotPossible(f"{name}: there is no table {move.table}")
    there = {one.name: one for one in catalog.columns(connection, move.table)}
    wrong = _facts(connection, table, move) + _columns(connection, table, move, there)
    key, why = _key(connection, table, move, there)
    fires, stops = _triggers(connection, table, name, move)
    if len(f"{guard(name)}_check") > table_name.MAX_BYTES:
        wrong.append(f"the name {name} is too long for the trigger that is called by it")
    wrong += [f"column {one} is part of the key" for one in key if one in {**move.columns, **move.reverse}]
    wrong += why + stops + _taken(connection, name, move)
    forward = reverse = Side()
    if not wrong:
        types = {**move.add, **{one.name: one.type for one in there.values()}}
        forward, bad = _side(connection, move.table, move.columns, types)
        reverse, worse = _side(connection, move.table, move.reverse, types)
        wrong += bad + worse
    if wrong:
        raise NotPossible(f"{name} ({move.table}): " + "; ".join(wrong))
    columns = tuple(there[one] for one in key)
    return Shape(
        name, move.table, columns, _orders(connection, table, columns), forward, reverse,
        _dense(connection, table, move.table, columns, dense), fires, move.required,
    )  # fmt: skip


def _facts(connection: Connection[Any], table: int, move: DataMigration) -> list[str]:
    row = connection.execute(_FACTS, (table,)).fetchone()
    assert row is not None
    _, writes, owns, creates, inherited, replica, creates_public, hidden = row
    found = []
    if replica:
        found.append("this server is a replica, nothing can be written here: see migration.primary_connection")
    if not writes:
        found.append("this role may not read and write it")
    if not owns:
        found.append("this role does not own it, and so can make no trigger")
    if not creates:
        found.append(f"this role may create nothing in the schema {table_name.split(move.table)[0]}")
    if not creates_public:
        found.append("this role may create nothing in the schema public, where the progress is kept")
    if hidden:
        found.append("row security hides rows from this role, as FORCE does from an owner: it needs BYPASSRLS")
    if inherited:
        found.append("other tables inherit from it, and no key names their rows")
    return found


def _columns(
    connection: Connection[Any], table: int, move: DataMigration, there: Mapping[str, catalog.Column]
) -> list[str]:
    found = []
    defaults = {row[0] for row in connection.execute(_HAS_DEFAULT, (table,))}
    for name in move.columns:
        if name not in there:
            if name not in move.add:
                found.append(f"there is no column {name}: a migration of the release adds it, or `add` of the plan")
        elif there[name].computed or there[name].always:
            found.append(f"column {name} gets its values by itself, nobody can write it")
        elif move.reverse and name in defaults:
            found.append(f"column {name} has a default: a row that the old application writes could not be told")
    for name in (*move.reverse, *(move.key or ())):
        if name not in there:
            found.append(f"there is no column {name}")
    found += [f"there is no column {name} that could be dropped" for name in move.drop if name not in there]
    found += [f"column {name} gets its values by itself" for name in move.reverse
              if name in there and (there[name].computed or there[name].always)]  # fmt: skip
    return found


def _key(
    connection: Connection[Any], table: int, move: DataMigration, there: Mapping[str, catalog.Column]
) -> tuple[tuple[str, ...], list[str]]:
    if move.key is None:
        key = catalog.key(connection, move.table)
        return key, [] if key else ["it has no primary key and no unique index without NULL: no key names its rows"]
    if any(name not in there for name in move.key):
        return move.key, []
    numbers = {one.number: one.name for one in there.values()}
    indices = [tuple(numbers.get(n, "") for n in row[0]) for row in connection.execute(_UNIQUE, (table,))]
    found = next((index for index in indices if set(index) == set(move.key)), None)
    if found is None:
        return move.key, [f"key {', '.join(move.key)} is not unique: no unique index has exactly these columns"]
    nullable = [name for name in found if not there[name].required]
    return found, [f"key column {name} may be NULL, and so names no row" for name in nullable]


def _orders(connection: Connection[Any], table: int, key: Sequence[catalog.Column]) -> tuple[Order, ...]:
    found = dict[int, list[tuple[str, str]]]()
    for number, _, schema, sign in connection.execute(_ORDERS, (table, [one.number for one in key])):
        found.setdefault(number, []).append((schema, sign))
    return tuple(Order(*found[one.number]) for one in key)


def _triggers(connection: Connection[Any], table: int, name: str, move: DataMigration) -> tuple[bool, list[str]]:
    """Whether others fire for filled rows, and what is in the way."""
    wrong, fires, unknown = [], False, set(move.fires)
    for trigger, place, before, update in connection.execute(_TRIGGERS, {"table": table}):
        if trigger.startswith(guard("")):
            continue
        unknown.discard(trigger)
        called = f"trigger {trigger}{place}"
        if update and trigger not in move.fires:
            wrong.append(f"{called} would fire for every row that is filled: name it in `fires` if it may")
        fires = fires or update
        if before and trigger > guard(name):
            wrong.append(f"{called} fires after the one of this data migration, and could change its columns")
    wrong += [f"there is no trigger {trigger} that could fire" for trigger in sorted(unknown)]
    for (rule,) in connection.execute(_RULES, (table,)):
        wrong.append(f"rule {rule} would act for every batch: drop it, or make a trigger of it")
    return fires, wrong


def _taken(connection: Connection[Any], name: str, move: DataMigration) -> list[str]:
    from handover.database.backfill.statements import MARK

    schema, function = table_name.split(move.table)[0], guard(name)
    said = connection.execute(_MINE, (schema, function)).fetchone()
    if said is None or said[0].startswith(MARK):
        return []
    return [f"there is a function {function} that is not ours"]


def _side(
    connection: Connection[Any], table: str, columns: Mapping[str, str], types: Mapping[str, str]
) -> tuple[Side, list[str]]:
    """These columns as PostgreSQL understands them, and what it does not take."""
    reads, wrong, bare = set[str](), list[str](), dict[str, str]()
    for name, text in columns.items():
        bare[name], problem = _one_expression(text)
        problem = problem or _probed(connection, table, name, bare[name], types, columns, reads)
        wrong += [f"column {name}: {problem}"] if problem else []
    return Side(bare, {name: types[name] for name in columns}, tuple(sorted(reads))), wrong


def _one_expression(text: str) -> tuple[str, str]:
    """The text without comments, and what is wrong with it."""
    found = read(text)
    if len(found) != 1 or ";" in found[0].tokens:
        return text, "that is not one expression"
    depth = 0
    for sign in found[0].tokens:
        depth += (sign in "([") - (sign in ")]")
        if depth < 0:
            break
    return found[0].text, "its parentheses do not fit" if depth else (found[0].problem or "")


def _probed(
    connection: Connection[Any], table: str, name: str, text: str, types: Mapping[str, str],
    siblings: Mapping[str, str], reads: set[str],
) -> str:  # fmt: skip
    """What PostgreSQL says of the expression, "" when it takes it; adds the columns that it reads."""
    import psycopg
    from psycopg import sql

    bare = sql.Identifier("pg_temp", table_name.split(table)[1])
    added = sql.Identifier("handover_probe")
    try:
        with connection.transaction(force_rollback=True):
            like = sql.SQL("CREATE TEMP TABLE {} (LIKE {})").format(
                sql.Identifier(table_name.split(table)[1]), catalog.identifier(table)
            )
            connection.execute(like)
            for other in types.keys() - siblings.keys():
                add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
                connection.execute(add.format(bare, sql.Identifier(other), sql.SQL(types[other])))
            for sibling in siblings:
                drop = sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(bare, sql.Identifier(sibling))
                connection.execute(drop)
            # as text: a name of the plan may have any character
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {} GENERATED ALWAYS AS ({}) STORED").format(
                bare, added, sql.SQL(types[name]), sql.SQL(text)
            ))  # fmt: skip
            reads |= {row[0] for row in connection.execute(_READS, (bare.as_string(connection),))}
    except psycopg.Error as error:
        if error.sqlstate == "42P17":
            return (
                "it is not the same at all times and in all sessions, or reads a computed column (" + cause(error) + ")"
            )
        return cause(error)
    return ""


def _dense(connection: Connection[Any], table: int, name: str, key: Sequence[catalog.Column], share: float) -> bool:
    """As far as PostgreSQL's own estimate goes; what is not known is not dense."""
    from psycopg import sql

    if len(key) != 1 or key[0].type not in ("smallint", "integer", "bigint"):
        return False
    column = sql.Identifier(key[0].name)
    row = connection.execute(
        sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(column, catalog.identifier(name))
    ).fetchone()
    rows = connection.execute(_DENSITY, {"table": table}).fetchone()
    if row is None or row[0] is None or rows is None:
        return False
    return bool(rows[0] >= share * (row[1] - row[0] + 1))
