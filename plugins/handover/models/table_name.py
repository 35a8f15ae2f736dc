"""How a table is called in plans, records and reports: ``orders``, ``Order``, ``app.orders``, ``"odd name"``.

A table of the schema ``public`` is called by its name alone. Nothing is folded: ``Order`` is the table that SQL calls
``"Order"``. Double quotes are needed where a name has other characters than letters, digits, ``_`` and ``$``. No I/O
here.
"""

from __future__ import annotations

import re

PUBLIC = "public"
MAX_BYTES = 63
"""PostgreSQL cuts longer names off, so two of them could be one."""
_PLAIN = r"[^\W\d][\w$]*"
_PART = rf'({_PLAIN}|"(?:[^"\0]|"")+")'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")


def split(name: str) -> tuple[str, str]:
    """Schema and table. Raises ValueError for what is no name of a table."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f'{name!r} is no name of a table: write orders, app.orders, or "odd name" in double quotes')
    schema, table = (PUBLIC if part is None else _bare(part) for part in found.groups())
    return schema, table


def written(schema: str, table: str) -> str:
    """The one way to write it; `split` reads it."""
    parts = (table,) if schema == PUBLIC else (schema, table)
    return ".".join(map(_quoted_if_need_be, parts))


def canonical(name: str) -> str:
    """The same name as `written` has it. Raises ValueError."""
    return written(*split(name))


def identifier(name: str) -> str:
    """A column's name, quoted by nobody whatever it has in it. Raises ValueError for what PostgreSQL cannot keep."""
    if not name or "\0" in name:
        raise ValueError(f"{name!r} is no name")
    if len(name.encode()) > MAX_BYTES:
        raise ValueError(f"{name!r} is longer than {MAX_BYTES} bytes")
    return name


def _bare(part: str) -> str:
    return identifier(part[1:-1].replace('""', '"') if part.startswith('"') else part)


def quoted(part: str) -> str:
    """One part of a name, as SQL has it whatever it has in it."""
    return '"' + part.replace('"', '""') + '"'


def _quoted_if_need_be(part: str) -> str:
    return part if re.fullmatch(_PLAIN, part) else quoted(part)
