"""The plan's section on data: how a new database is seeded, and which CSV files may be imported into which tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from handover.plan.parts import ColumnName, ConnectionId, Name, Seconds, Section, SeedFile, TableName

Kind = Literal["text", "integer", "decimal", "date", "timestamp", "boolean"]
FileColumn = Annotated[ColumnName, StringConstraints(pattern=r"^[^_\s](.*\S)?$")]
"""A name in the first line of a file, where spaces around it do not count."""
Source = Annotated[str, StringConstraints(pattern=r"^(s3://[^/]+/(.*/)?|/.*)$")]


class Lookup(Section):
    """A value of the file stands for a row of another table: ``match`` is the column it is found by, ``take`` the
    column that is stored instead."""

    table: TableName
    match: ColumnName
    take: ColumnName


class ImportColumn(Section):
    """A column of the file. ``into``: the table's column, by default of the same name.

    A column that is not required may be left out of the file; an empty value is then ``default``, or NULL.
    """

    type: Kind = "text"
    into: ColumnName | None = None
    required: bool = True
    default: str | None = None
    one_of: tuple[str, ...] | None = None
    lookup: Lookup | None = None

    @model_validator(mode="after")
    def _default_or_required(self) -> ImportColumn:
        if self.required and self.default is not None:
            raise ValueError("a column with a default is not required: write required: false")
        if self.lookup is not None and (self.default is not None or self.type != "text"):
            raise ValueError("a column that is looked up is text and has no default")
        return self


class Rule(Section):
    """Something that must be true of every row: an SQL condition over the file's columns, as typed values."""

    column: FileColumn
    must: str
    reason: str


class Import(Section):
    """One kind of CSV file and the table that its rows go into.

    ``key``: the columns of the file that name a row; the table needs a unique index on the columns they go into.
    """

    table: TableName
    key: Annotated[tuple[FileColumn, ...], Field(min_length=1)]
    columns: Annotated[dict[FileColumn, ImportColumn], Field(min_length=1)]
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _columns_exist(self) -> Import:
        for what, names in (("key", self.key), ("rules", tuple(rule.column for rule in self.rules))):
            if unknown := sorted(set(names) - self.columns.keys()):
                raise ValueError(f"{what}: no column {', '.join(unknown)} in columns")
        if optional := [name for name in self.key if not self.columns[name].required]:
            raise ValueError(f"key: {', '.join(optional)} must be required")
        targets = [self.target(name) for name in self.columns]
        if doubled := sorted({name for name in targets if targets.count(name) > 1}):
            raise ValueError(f"two columns go into {', '.join(doubled)}")
        return self

    def target(self, column: str) -> str:
        """The table's column that a column of the file goes into."""
        return self.columns[column].into or column


class Data(Section):
    """``sources``: files are only read from below these, ``s3://bucket/folder/`` or a folder of the workers."""

    aws_connection: ConnectionId
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    statement_timeout_seconds: Seconds
    seed: SeedFile
    imports: Annotated[dict[Name, Import], Field(min_length=1)]
