"""Section `migration` of the plan: the database, and how a release changes its schema (plan 3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from handover.models.deployment import MigrationMethod
from handover.plan.parts import Command, ConnectionId, Count, Fraction, Seconds, Section, SqlFile, TableName, required

HistoryTable = Literal["alembic", "django", "flyway", "golang_migrate", "goose", "liquibase", "rails"]


NEWEST_ONLY: dict[HistoryTable, str] = {
    "alembic": "[alembic, downgrade, '{to}']",
    "golang_migrate": "[migrate, goto, '{to}']",
}
"""Tools whose table has the newest migration alone, so that nobody can count them, and what undoes theirs."""


class DatabaseCpu(Section):
    """Who knows how busy the database's machine is. ``query``: PromQL for the busy share of its CPU, 0.7 for 70 %."""

    connection: ConnectionId
    query: Annotated[str, Field(min_length=1)]


class MigrationTool(Section):
    """A command of the release that migrates, and where it keeps what it has applied. It runs in the release's image
    with its settings, as ``PGAPPNAME`` says to the database.

    Of what is pending only the tool itself knows.
    """

    command: Command
    history: HistoryTable | None = None
    """The table of a known tool."""
    history_query: Annotated[str, Field(pattern=r"^(?i:select|with|table|values)\b")] | None = None
    """Or a query of one column: the name of each migration that is applied."""
    undo_command: Command | None = None
    """Undoes what this release has applied; ``{count}`` is how many those are (not for `NEWEST_ONLY`), ``{to}`` the
    newest before them. It runs in the image of the new release.
    """

    @model_validator(mode="after")
    def _one_history(self) -> MigrationTool:
        if self.history and self.history_query:
            raise ValueError("say history or history_query, not both")
        if self.undo_command and not (self.history or self.history_query):
            raise ValueError("undo_command without history or history_query: nobody could see whether it has undone it")
        instead = NEWEST_ONLY.get(self.history) if self.history else None
        if instead and any("{count}" in part for part in self.undo_command or ()):
            raise ValueError(
                f"undo_command: the table of {self.history} has its newest migration alone, so {{count}} is not known:"
                f" undo to the one before, such as {instead}"
            )
        return self


UNREAD = "syntax-error"
"""What the linter calls a file that it cannot read to its end: what stands behind that place was not judged."""
LintRule = Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")]


class LintRules(Section):
    """Rules of squawk, the linter of migrations (docs/database.md). One that is in neither list warns.

    ``refuse``: no migration runs that breaks one of them; ``ignore``: nobody hears of them.
    """

    refuse: tuple[LintRule, ...] = (
        UNREAD,
        "ban-concurrent-index-creation-in-transaction",
        "ban-drop-database",
        "ban-truncate-cascade",
    )
    ignore: tuple[LintRule, ...] = (
        "ban-char-field",
        "prefer-bigint-over-int",
        "prefer-bigint-over-smallint",
        "prefer-identity",
        "prefer-text-field",
        "prefer-timestamp-tz",
    )

    @model_validator(mode="after")
    def _one_place(self) -> LintRules:
        if both := sorted(set(self.refuse) & set(self.ignore)):
            raise ValueError(f"{', '.join(both)} is both in refuse and in ignore")
        if UNREAD in self.ignore:
            raise ValueError(f"{UNREAD} cannot be ignored: leave it out of refuse, and it is a warning")
        return self


class MigrationRules(Section):
    primary_connection: ConnectionId
    replica_connections: tuple[ConnectionId, ...] = ()
    path: str | None = None
    """Folder of the release's image with migrations in the layout of Prisma: SQL that we run, or Prisma itself."""
    prisma_command: Command = ("npx", "prisma", "migrate", "deploy")
    """How the release's own Prisma migrates, in its image."""
    tool: MigrationTool | None = None
    """Or the release's own command."""
    before_cutover: bool = False
    """Phase 3 comes before phase 2: for releases that do not start before the schema is theirs. The old version has to
    run on the new schema either way.
    """
    lock_timeout_seconds: Seconds = 0.1
    statement_timeout_seconds: Seconds = 900.0
    lock_retries: Count = 20
    counted_tables: Annotated[tuple[TableName, ...], Field(min_length=1)]
    max_changed: Fraction | None = None
    """Share of a counted table's rows from before whose value in a column may be another one after the migration; what
    more of them have is corruption. None: it is only said, for many a migration changes values.
    """
    schema_check: SqlFile | None = None
    integrity_checks: SqlFile | None = None
    critical_queries: SqlFile | None = None
    max_query_seconds: Seconds = 1.0
    lint: LintRules = LintRules()
    lag_timeout_seconds: Seconds = 120.0
    cpu: DatabaseCpu | None = None

    @model_validator(mode="after")
    def _one_way(self) -> MigrationRules:
        if (self.path is None) == (self.tool is None):
            raise ValueError("say either path, for migrations in SQL, or tool, for a command of the release")
        return self

    @property
    def methods(self) -> tuple[MigrationMethod, ...]:
        """How a release may be asked to migrate, the usual way first."""
        return ("tool", "none") if self.tool else ("sql", "prisma", "none")

    @property
    def folder(self) -> str:
        """Raises `LeftOut` where a tool migrates."""
        return required(self.path, "migration.path")
