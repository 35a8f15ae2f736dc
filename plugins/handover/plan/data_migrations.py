"""Section `data_migrations` of the plan: columns of live tables that are filled from others in the background."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from handover.plan.parts import ColumnName, Count, Fraction, Growth, Name, Seconds, Section, TableName

Expression = Annotated[str, StringConstraints(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
"""SQL over the columns of one row. PostgreSQL itself says whether it is one, before anything is touched."""
Time = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no such time zone: {name}") from None
    return name


class LowTraffic(Section):
    """The hours of every day in which the reading side may be cut over; they may go over midnight."""

    opens: Time
    closes: Time
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _takes_time(self) -> LowTraffic:
        if self.opens == self.closes:
            raise ValueError("opens and closes are the same: leave low_traffic out when any hour will do")
        return self

    def seconds_until(self, now: datetime.datetime) -> float:
        """How long it is until the hours begin; 0 within them."""
        local = now.astimezone(zoneinfo.ZoneInfo(self.timezone))
        opens, closes = (datetime.time.fromisoformat(text) for text in (self.opens, self.closes))
        at = local.time()
        if opens <= at < closes if opens < closes else at >= opens or at < closes:
            return 0.0
        begin = local.replace(hour=opens.hour, minute=opens.minute, second=0, microsecond=0)
        if begin <= local:
            begin += datetime.timedelta(days=1)
        return (begin - now).total_seconds()


class DataMigration(Section):
    """Columns of one table that are filled from its other columns."""

    table: TableName
    columns: Annotated[dict[ColumnName, Expression], Field(min_length=1)]
    """What each new column is, as SQL over the old ones."""
    add: dict[ColumnName, Expression] = Field(default_factory=dict)
    """Type of each new column that no migration of the release adds."""
    key: tuple[ColumnName, ...] | None = None
    """Names a row; by default the primary key, or else a unique index without NULL."""
    reverse: dict[ColumnName, Expression] = Field(default_factory=dict)
    """What old columns are, as SQL over the new ones: from the cutover to the contract they are kept filled."""
    required: bool = False
    """The new columns become NOT NULL with the cutover."""
    drop: tuple[ColumnName, ...] = ()
    """Old columns that the contract drops."""
    fires: tuple[str, ...] = ()
    """Triggers of the service that may fire for every row that is filled."""

    @model_validator(mode="after")
    def _new_is_not_old(self) -> DataMigration:
        for key in ("reverse", "drop"):
            if both := sorted(set(getattr(self, key)) & set(self.columns)):
                raise ValueError(f"{key}: {', '.join(both)} is a new column, these are the old ones")
        if more := sorted(set(self.add) - set(self.columns)):
            raise ValueError(f"add: {', '.join(more)} is none of columns")
        if self.key is not None and (not self.key or len(set(self.key)) < len(self.key)):
            raise ValueError("key: name each of its columns once, or leave it out")
        return self


class DataMigrations(Section):
    """What holds for all of them together; they run beside each other within one budget."""

    role: str
    response_seconds: Seconds
    low_traffic: LowTraffic | None = None
    keep_seconds: Seconds = 604_800
    """From the cutover to the contract at least: until then everything can go back."""
    max_lag_seconds: Seconds = 1.0
    """Of any replica; beyond, and while it is not known, no batch begins."""
    max_wait_seconds: Seconds = 0.08
    """A writer that a batch keeps waiting for so long gets that batch undone."""
    batch_seconds: Seconds = 0.06
    first_batch: Count = 1000
    max_batch: Count = 20_000
    lock_timeout_seconds: Seconds = 0.05
    max_dead_share: Growth = 1.0
    """Dead rows for each live one; beyond, no batch begins while autovacuum works on the table."""
    slice_seconds: Seconds = 600
    """A task runs batches for so long before it gives its worker slot back for a moment."""
    at_once: Count = 2
    dense: Fraction = 0.5
    """Share of an integer key's range that is used, from which on batches are ranges of it."""
    tables: Annotated[dict[Name, DataMigration], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_column_twice(self) -> DataMigrations:
        seen: dict[tuple[str, str], str] = {}
        for name, one in self.tables.items():
            for column in (*one.columns, *one.reverse):
                if (other := seen.setdefault((one.table, column), name)) != name:
                    raise ValueError(f"tables.{name}: {one.table}.{column} is written by {other} already")
        if self.first_batch > self.max_batch:
            raise ValueError("first_batch must not be above max_batch")
        return self
