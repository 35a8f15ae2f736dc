"""What a data migration is once the catalogue has been asked: everything that its statements are made of. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from handover.database.catalog import Column
from handover.models.table_name import split

Key = tuple[str, ...]
"""Of one row, each column as PostgreSQL writes it."""


def guard(name: str) -> str:
    """Of a data migration's trigger and its function: it fires behind every other one, PostgreSQL goes by names."""
    return f"zzz_handover_{name}"


@dataclass(frozen=True)
class Side:
    """Columns, each as an expression over others; ``reads``: those others; ``types``: of the columns."""

    columns: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """The operators of a key column's own index, each by schema and name: whichever a search path finds may order
    values otherwise, or may be none of this type.
    """

    below: tuple[str, str]
    not_above: tuple[str, str]
    equal: tuple[str, str]
    not_below: tuple[str, str]
    above: tuple[str, str]


@dataclass(frozen=True)
class Shape:
    """``name``: of it in the database. ``dense``: batches are ranges of the one integer that is its key. ``orders``: of
    each column of the key.
    """

    name: str
    table: str
    key: tuple[Column, ...]
    orders: tuple[Order, ...]
    forward: Side
    reverse: Side = Side()
    dense: bool = False
    fires: bool = False
    """Triggers of the service fire for filled rows, so that ours has to come after them."""
    required: bool = False

    @property
    def schema(self) -> str:
        return split(self.table)[0]

    @property
    def guard(self) -> str:
        return guard(self.name)

    @property
    def fingerprint(self) -> str:
        """Of what a run that goes on relies on."""
        parts = [self.table, [one.name for one in self.key], dict(self.forward.columns), dict(self.reverse.columns)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def shown(shape: Shape, key: Key) -> str:
    """The key of a row as people read it; nothing else of the row is ever shown."""
    return ", ".join(f"{column.name}={value}" for column, value in zip(shape.key, key, strict=True))
