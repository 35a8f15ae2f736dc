"""The SQL of an import, made from the plan and the types that the table's columns have. No I/O here.

Every question is asked of all rows at once. A row lies in `STAGED` as text; what is wrong with it goes to `REJECTS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from handover.data.targets import Target, unlimited
from handover.models import table_name

if TYPE_CHECKING:
    from handover.plan.data import Import, ImportColumn

STAGED = SQL("pg_temp.import_rows")
REJECTS = SQL("pg_temp.import_rejects")
VALUE_CHARACTERS = 60
"""What of a rejected value the report shows at most."""
CREATE_REJECTS = SQL(
    'CREATE TEMPORARY TABLE import_rejects (line bigint, "column" text, value text, reason text) ON COMMIT DROP'
)
FORGET = SQL("DELETE FROM {} AS s USING {} AS r WHERE r.line = s._line").format(STAGED, REJECTS)
"""Takes the rejected rows out, so that later questions may cast what is left."""
REPORT = SQL(
    'COPY (SELECT line, "column",'
    " CASE WHEN length(value) > {most} THEN left(value, {most} - 3) || '...' ELSE value END AS value, reason"
    ' FROM {rejects} ORDER BY line, "column", reason) TO STDOUT (FORMAT csv, HEADER)'
).format(most=Literal(VALUE_CHARACTERS), rejects=REJECTS)
REFUSE = SQL("INSERT INTO {} VALUES (%s, '', '', %s)").format(REJECTS)
LAST = SQL("SELECT coalesce(max(_line), 0) FROM {}").format(STAGED)
COUNTS = SQL("SELECT count(DISTINCT line), count(*) FROM {}").format(REJECTS)
SHOWN = 5
FIRST = SQL('SELECT line, "column", reason FROM {} ORDER BY line, "column", reason LIMIT {}').format(
    REJECTS, Literal(SHOWN)
)

_WHOLE = r"^[+-]?\d+$"
_DECIMAL = r"^[+-]?\d+(\.\d+)?$"
_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?$"


def looks_like(column: ImportColumn, value: Composable, target: Target) -> tuple[Composable, str]:
    """What a value must look like, and what is said when it does not.

    PostgreSQL itself takes more than anybody wants in a file: 'today', '1/2/24', 'NaN', '1e3'.
    """
    sql_type = target.type
    match column.type:
        case "text":
            return SQL("true"), f"does not fit {sql_type}"
        case "integer":
            return _matches(value, _WHOLE), f"is not a whole number that fits {sql_type}"
        case "decimal":
            return _matches(value, _DECIMAL), f"is not a number like 1234.5 that fits {sql_type}"
        case "date":
            digits = SQL("translate({}, '012345678', '999999999') = '9999-99-99'").format(value)  # quicker than ~
            return digits, "is not a date YYYY-MM-DD"
        case "timestamp":
            cut = f", that fits {sql_type}" if unlimited(target.plain) or target.plain == "date" else ""
            return _matches(value, _TIME), f"is not a time YYYY-MM-DD HH:MM:SS, with or without a zone{cut}"
        case "boolean":
            return SQL("lower({}) IN ('true', 'false')").format(value), "is neither true nor false"


def _matches(value: Composable, pattern: str) -> Composable:
    return SQL("{} ~ {}").format(value, Literal(pattern))


class Statements:
    """The statements for one file. ``columns``: those of the file; ``targets``: the table's columns by name;
    ``matches``: by a column of the file, the column of another table that its values are looked up in; ``unique``: sets
    of the table's columns, no two rows of which may have the same values.

    A column that is not in the file and has no default in the plan is not written: the table's own default holds.
    Columns may have any name: what is ours is called otherwise, or stands behind an alias.
    """

    def __init__(
        self, spec: Import, columns: tuple[str, ...], targets: Mapping[str, Target], matches: Mapping[str, Target],
        unique: Iterable[Collection[str]] = (),
    ) -> None:  # fmt: skip
        self.spec, self.columns, self._targets, self._matches = spec, columns, targets, matches
        self._written = written(spec, columns)
        self.table = _table(spec.table)
        self.key = [spec.target(name) for name in spec.key]
        file = {spec.target(name): name for name in self._written}
        others = [one for one in unique if file.keys() >= set(one) and not set(one) >= set(self.key)]
        self._unique = list(dict.fromkeys(tuple(file[name] for name in one) for one in others))
        self._line = Identifier(_free("line", self.into))

    @property
    def into(self) -> list[str]:
        """The table's columns that are written."""
        return [self.spec.target(name) for name in self._written]

    def defaults(self) -> Iterable[tuple[str, str, Composed]]:
        """Of each default of the plan: its column, what is said if that does not take it, and whether it does."""
        for name, column in self.spec.columns.items():
            if column.default is not None:
                target, value = self._targets[self.spec.target(name)], Identifier("s", "value")
                looks, reason = looks_like(column, value, target)
                yield (
                    name,
                    reason,
                    SQL("SELECT {} AND {} FROM (SELECT {}::text AS value OFFSET 0) AS s").format(
                        looks, target.fits(value, column.type), Literal(column.default)
                    ),
                )

    def create(self) -> Composed:
        """The file's columns have numbers there: a table cannot have every name (``xmin``)."""
        names = SQL(", ").join(SQL("{} text").format(Identifier(str(number))) for number, _ in enumerate(self.columns))
        return SQL("CREATE TEMPORARY TABLE import_rows (_line bigint, _malformed text, {}) ON COMMIT DROP").format(
            names
        )

    def copy(self) -> Composed:
        return SQL("COPY {} FROM STDIN (NULL '')").format(STAGED)

    def malformed(self) -> Composed:
        """Rejects rows with too few or too many values."""
        return self._reject(SQL("SELECT _line, '', '', _malformed FROM {} WHERE _malformed IS NOT NULL").format(STAGED))

    def flaws(self) -> Composed:
        """Rejects rows by what is wrong with single values: missing, of another type, unknown elsewhere."""
        found = [flaw for name in self.columns for flaw in self._flaws_of(name)]
        values = SQL(", ").join(
            SQL("({}, {}, {}, {})").format(Literal(name), self._staged(name), Literal(reason), bad)
            for name, reason, bad in found
        )
        return self._reject(
            SQL(
                "SELECT s._line, f.name, f.value, f.reason FROM {staged} AS s {lookups} "
                "CROSS JOIN LATERAL (VALUES {values}) AS f (name, value, reason, bad) WHERE ({any}) AND f.bad"
            ).format(
                staged=STAGED, lookups=self._lookups(), values=values, any=SQL(" OR ").join(bad for *_, bad in found)
            )
        )

    def _flaws_of(self, name: str) -> Iterable[tuple[str, str, Composable]]:
        column, value = self.spec.columns[name], self._staged(name)
        target = self._targets[self.spec.target(name)]
        if column.required or (target.required and column.default is None):
            yield name, "is missing", SQL("{} IS NULL").format(value)
        if column.one_of is not None:
            known = SQL(", ").join(map(Literal, column.one_of))
            yield name, f"is none of {', '.join(column.one_of)}", SQL("({} NOT IN ({})) IS TRUE").format(value, known)
        if column.lookup is not None:
            match, take, table = column.lookup.match, column.lookup.take, column.lookup.table
            found, taken = Identifier(self._alias(name), match), Identifier(self._alias(name), take)
            yield (
                name,
                f"is not a known {match} of {table}",
                SQL("({} IS NOT NULL AND {} IS NULL)").format(value, found),
            )
            yield name, f"has no {take} in {table}", SQL("({} IS NOT NULL AND {} IS NULL)").format(found, taken)
            return
        looks, reason = looks_like(column, value, target)
        fits = SQL("{} AND {}").format(looks, target.fits(value, column.type))
        yield name, reason, SQL("(NOT ({})) IS TRUE").format(fits)

    def duplicates(self) -> list[Composed]:
        """For the key and each other unique index: rejects rows of which an earlier line of the file has the same
        values, as the table's types see it: 7 and 007 are one.
        """
        return [self._doubled(names) for names in (self.spec.key, *self._unique)]

    def _doubled(self, names: tuple[str, ...]) -> Composed:
        what = "key" if names == self.spec.key else ", ".join(names)
        return self._reject(
            SQL(
                "SELECT n.{line}, {name}, {value}, {said} || d.{line} FROM ({new}) AS n JOIN ("
                "SELECT {keys}, min({line}) AS {line} FROM ({new}) AS n GROUP BY {keys} HAVING count(*) > 1"
                ") AS d USING ({keys}) JOIN {staged} AS s ON s._line = n.{line} WHERE n.{line} > d.{line}"
            ).format(
                line=self._line, name=_names(names), value=self._values(names),
                said=Literal(f"has the same {what} as line "), staged=STAGED, keys=self._targets_of(names),
                new=self._new(names),
            )
        )  # fmt: skip

    def taken(self) -> list[Composed]:
        """For each other unique index: rejects rows whose values another row of the table has."""
        key = [(Identifier("t", name), Identifier("n", name)) for name in self.key]
        other = SQL(" OR ").join(SQL("{} IS DISTINCT FROM {}").format(*pair) for pair in key)
        return [
            self._reject(
                SQL(
                    "SELECT n.{line}, {name}, {value}, 'is in the table already, in a row with another ' || {key}"
                    " FROM ({new}) AS n JOIN {table} AS t USING ({keys}) JOIN {staged} AS s ON s._line = n.{line}"
                    " WHERE {other}"
                ).format(
                    line=self._line, name=_names(names), value=self._values(names), key=_names(self.spec.key),
                    new=self._new(dict.fromkeys((*self.spec.key, *names))), table=self.table,
                    keys=self._targets_of(names), staged=STAGED, other=other,
                )
            )
            for names in self._unique
        ]  # fmt: skip

    def rules(self) -> list[Composed]:
        """For each rule of the plan: rejects rows of which it is not true."""
        typed = SQL(", ").join(
            SQL("{} AS {}").format(self._typed(name), Identifier(name)) for name in self.spec.columns
        )
        return [
            self._reject(
                SQL("SELECT _line, {name}, {value}::text, {reason} FROM (SELECT _line, {typed} FROM {staged} AS s)"
                    " AS t WHERE ({must}) IS FALSE").format(
                    name=Literal(rule.column), value=Identifier(rule.column), reason=Literal(rule.reason), typed=typed,
                    staged=STAGED, must=SQL(rule.must),  # the plan is trusted
                )
            )
            for rule in self.spec.rules
        ]  # fmt: skip

    def others(self) -> Composed:
        """Rejects rows whose key is in the table with other values."""
        differing: list[Composable] = [
            SQL("CASE WHEN t.{0}{2} IS DISTINCT FROM n.{0}{2} THEN {1} END").format(
                Identifier(name), Literal(name), self._targets[name].compared_as
            )
            for name in self.into if name not in self.key
        ] or [SQL("NULL")]  # fmt: skip
        return self._reject(
            SQL(
                "SELECT f.line, {name}, f.value, 'is in the table already, with another ' || f.others FROM ("
                "SELECT n.{line}, {value}, concat_ws(', ', {differing})"
                " FROM ({new}) AS n JOIN {table} AS t USING ({key})) AS f (line, value, others) WHERE f.others <> ''"
            ).format(
                line=self._line, name=_names(self.spec.key),
                value=_joined(Identifier("n", name) for name in self.key), differing=SQL(", ").join(differing),
                new=self._new(), table=self.table, key=self._targets_of(self.spec.key),
            )
        )  # fmt: skip

    def present(self) -> Composed:
        """How many rows are in the table already."""
        return SQL("SELECT count(*) FROM ({}) AS n JOIN {} AS t USING ({})").format(
            self._new(), self.table, self._targets_of(self.spec.key)
        )

    def insert(self, after: int, until: int) -> Composed:
        """Of lines after one, until another."""
        return SQL(
            "INSERT INTO {table} ({names}) SELECT {names} FROM ({new}) AS n WHERE n.{line} > {after}"
            " AND n.{line} <= {until} ON CONFLICT ({key}) DO NOTHING"
        ).format(
            table=self.table, names=self._targets_of(self._written), new=self._new(), line=self._line,
            after=Literal(after), until=Literal(until), key=self._targets_of(self.spec.key),
        )  # fmt: skip

    def _new(self, names: Iterable[str] = ()) -> Composed:
        """The rows as the table will have them, with their lines; all that is written, or only these columns."""
        values = [
            SQL("{} AS {}").format(self._stored(name), Identifier(self.spec.target(name)))
            for name in names or self._written
        ]
        return SQL("SELECT s._line AS {}, {} FROM {} AS s {}").format(
            self._line, SQL(", ").join(values), STAGED, self._lookups()
        )

    def _stored(self, name: str) -> Composable:
        lookup = self.spec.columns[name].lookup
        return Identifier(self._alias(name), lookup.take) if lookup else self._typed(name)

    def _typed(self, name: str) -> Composable:
        """The value as the table's type; one that is looked up stays text."""
        column = self.spec.columns[name]
        value: Composable = self._staged(name) if name in self.columns else SQL("NULL")
        if column.default is not None:
            value = SQL("coalesce({}, {})").format(value, Literal(column.default))
        if column.lookup:
            return SQL("CAST({} AS text)").format(value)
        return self._targets[self.spec.target(name)].cast(value, column.type)

    def _lookups(self) -> Composed:
        joins: list[Composable] = [
            SQL("LEFT JOIN {} AS {} ON {} = CASE WHEN {} THEN {} END").format(
                _table(column.lookup.table), Identifier(self._alias(name)),
                Identifier(self._alias(name), column.lookup.match), self._matches[name].fits(self._staged(name)),
                self._matches[name].cast(self._staged(name)),
            )
            for name, column in self.spec.columns.items() if column.lookup and name in self.columns
        ]  # fmt: skip
        return SQL(" ").join(joins)

    def _staged(self, name: str) -> Composable:
        return Identifier("s", str(self.columns.index(name)))

    def _alias(self, name: str) -> str:
        return f"lookup_{list(self.spec.columns).index(name)}"

    def _targets_of(self, names: Iterable[str]) -> Composed:
        return SQL(", ").join(Identifier(self.spec.target(name)) for name in names)

    def _values(self, names: Iterable[str]) -> Composed:
        """What the file has there."""
        return _joined(self._staged(name) for name in names if name in self.columns)

    def _reject(self, query: Composable) -> Composed:
        return Composed([SQL("INSERT INTO {} ").format(REJECTS), query])


def _names(names: Iterable[str]) -> Composable:
    return Literal(", ".join(names))


def _joined(values: Iterable[Composable]) -> Composed:
    return SQL("concat_ws(', ', {})").format(SQL(", ").join(values))


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or one like it that is none of these."""
    while name in taken:
        name += "_"
    return name


def _table(name: str) -> Identifier:
    return Identifier(*table_name.split(name))


def written(spec: Import, columns: tuple[str, ...]) -> list[str]:
    """Columns of a file with these columns, or of the plan, whose values go into the table."""
    return [name for name, c in spec.columns.items() if name in columns or c.default is not None]
