"""What a column of a table takes, and whether it stores a value as it was written. No I/O here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.sql import SQL, Composable, Literal

if TYPE_CHECKING:
    from handover.plan.data import Kind

NO_EQUALITY = re.compile(
    r"(json|jsonpath|xml|point|line|lseg|path|polygon|box|circle|refcursor|(pg|txid)_snapshot)(\[\])*"
)
"""Types whose values cannot be compared, or not exactly: they are as text."""
_ZONELESS = re.compile(r"timestamp(\(\d\))? without time zone")
_TAKES_TIMES = re.compile(r"(timestamp|time)(\(\d\))? without time zone|date")
_LIMITED = re.compile(
    r"(numeric|character varying|character|bit varying|bit|timestamp|time|interval)"
    r"((?: (?:year|month|day|hour|minute|second|to))*(?:\([\d,-]+\))?)( with(?:out)? time zone)?((?:\[\])*)"
)
_WITHOUT_LIMIT = {"character": "bpchar", "bit": "bit varying"}
"""Types that are of length 1 without one."""
_ROUNDED = {"real": "text", "double precision": "text", "money": "numeric"}
"""Types that round decimal numbers, and what they have to become to say which one they hold."""
_FINER = r"\.\d{6}\d*[1-9]"
"""More than the microseconds that every time is rounded to."""


def unlimited(sql_type: str) -> str | None:
    """The type without the length, digits or fields that its values are cut to; None where it has none."""
    found = _LIMITED.fullmatch(sql_type)
    if not found or not found[2]:
        return None
    name, _, zone, array = found.groups("")
    return _WITHOUT_LIMIT.get(name, name) + zone + array


@dataclass(frozen=True)
class Target:
    """A column of the table: its type as SQL, and whether it must have a value.

    ``base``: what a domain is made of, else the type itself; ``collation``: where it is another than the type's own;
    ``makes``: how the table itself makes the values, which nobody may write then.
    """

    type: str
    required: bool
    base: str = ""
    collation: str = ""
    makes: str = ""

    @property
    def plain(self) -> str:
        return self.base or self.type

    def takes_utc_of(self, kind: Kind) -> bool:
        """Whether a time of this kind loses its zone here: it has to be made one of UTC first."""
        return bool(_ZONELESS.fullmatch(self.plain)) or (
            kind == "timestamp" and bool(_TAKES_TIMES.fullmatch(self.plain))
        )

    @property
    def compared_as(self) -> SQL:
        """What has to stand behind values so that they can be compared."""
        return SQL("::text" if NO_EQUALITY.fullmatch(self.plain) else "")

    def cast(self, value: Composable, kind: Kind = "text") -> Composable:
        """The value, which is text, as this type. The session's zone is UTC."""
        found = _cast(self._moment(value, kind), self.type)
        return SQL("{} COLLATE {}").format(found, SQL(self.collation)) if self.collation else found

    def fits(self, value: Composable, kind: Kind = "text") -> Composable:
        """Whether `cast` can be done, and `keeps` the value."""
        own: dict[Kind, str] = {"date": "date", "timestamp": "timestamp with time zone"}
        types = [self.type, *([own[kind]] if kind in own else [])]
        if self.takes_utc_of(kind):
            types.append("timestamp with time zone")
        if self.plain in _ROUNDED:
            types.append("numeric")
        if self.plain == "date" and kind == "text":
            types.append("timestamp without time zone")
        valid = SQL(" AND ").join(
            SQL("pg_input_is_valid({}, {})").format(value, Literal(name)) for name in dict.fromkeys(types)
        )
        kept = self.keeps(value, kind)
        return SQL("CASE WHEN NOT ({}) THEN false ELSE {} END").format(valid, kept) if kept else valid

    def keeps(self, value: Composable, kind: Kind = "text") -> Composable | None:
        """Whether the column stores what was written: PostgreSQL rounds and cuts without a word. None: always.

        A value that cannot be cast is an error.
        """
        moment, plain = self._moment(value, kind), self.plain
        conditions = []
        if whole := unlimited(plain):
            conditions.append(_equal(_cast(moment, plain), _cast(moment, whole)))
        if plain in _ROUNDED:
            said, written = _cast(_cast(_cast(value, plain), _ROUNDED[plain]), "numeric"), _cast(value, "numeric")
            if plain == "double precision":  # many programs write 17 digits, of which it says 15 for sure
                said, written = SQL("trunc({})").format(said), SQL("trunc({})").format(written)
            conditions.append(_equal(said, written))
        if plain == "date" and kind in ("text", "timestamp"):
            conditions.append(_equal(_cast(moment, plain), _cast(moment, "timestamp without time zone")))
        if plain.startswith("time") and kind == "text":
            conditions.append(SQL("{} !~ {}").format(value, Literal(_FINER)))
        return SQL("({})").format(SQL(" AND ").join(conditions)) if conditions else None

    def _moment(self, value: Composable, kind: Kind) -> Composable:
        return _cast(value, "timestamp with time zone") if self.takes_utc_of(kind) else value


def _cast(value: Composable, sql_type: str) -> Composable:
    return SQL("CAST({} AS {})").format(value, SQL(sql_type))


def _equal(one: Composable, other: Composable) -> Composable:
    return SQL("{} = {}").format(one, other)
