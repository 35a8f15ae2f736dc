"""The trial of a release that migrates by itself, on the copy: its own Prisma, or a command of its own (a tool)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from handover.adapters.postgres import Database
from handover.database import history, ledger, migrations
from handover.database.history import History, HistoryUnreadable
from handover.database.migrations import Bundle, Row
from handover.database.rehearsal.programs import Programs
from handover.database.rehearsal.result import Way
from handover.database.rehearsal.trial import Against, Trial
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.plan.model import Plan


class ReleaseTrial(Trial):
    """What both share: a command of the new version, whose locks are seen in samples alone."""

    def __init__(
        self, plan: Plan, database: Database, bundle: Bundle, *, programs: Programs, done: Sequence[str] = (),
        granted: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(plan, database, bundle, done=done, programs=programs, granted=granted)
        self.own = programs

    def command(self, argv: Sequence[str], way: Way) -> None:
        """Raises `Against` unless it ends well."""

        def run(_: object) -> None:
            done = self.own.run(f"migrate/{way}", self.own.new, tuple(argv))
            if done.succeeded is not True:
                raise Against(f"{' '.join(argv)} fails: {self.own.why(done)}")

        self.measured(" ".join(argv), way, run)


class PrismaTrial(ReleaseTrial):
    def refusals(self, rows: list[Row]) -> list[str]:
        bad = migrations.unreadable(migrations.pending(self.bundle, rows))
        return migrations.stuck(rows) + migrations.drift(self.bundle, rows) + bad

    def forward(self, way: Way) -> None:
        """Its exit code alone proves nothing: it is 0 for edited and for missing migrations."""
        self.command(self.plan.database.prisma_command, way)
        with self.database.connect() as connection:
            rows = ledger.rows(connection)
        left = [f"{script.name} is not applied" for script in migrations.pending(self.bundle, rows)]
        if wrong := left + migrations.stuck(rows) + migrations.drift(self.bundle, rows):
            raise Against("; ".join(wrong))


class ToolTrial(ReleaseTrial):
    """What is pending only the tool knows; what it did is what its history has that it did not have before."""

    def begin(self) -> bool:
        self.tool = required(self.plan.database.tool, "migration.tool")
        self.histories = history.tables(self.tool)
        self.known = self._history()
        return True

    def forward(self, way: Way) -> None:
        self.command(self.tool.command, way)
        self.applied = [name for name in self._history().applied if name not in self.known.applied]

    def without_a_way_back(self) -> str:
        return "" if self.tool.undo_command else "migration.tool has no undo_command"

    def back(self) -> None:
        """Nothing is undone where the history has nothing new."""
        if not self.applied:
            return
        to = self.known.applied[-1] if self.known.applied else ""
        argv = [part.replace("{count}", str(len(self.applied))).replace("{to}", to) for part in self._undo_command()]
        self.command(argv, "reverse")
        if set(self._history().applied) != set(self.known.applied):
            raise Against(f"{' '.join(argv)} has not undone {', '.join(self.applied)}")

    def _undo_command(self) -> tuple[str, ...]:
        return required(self.tool.undo_command, "migration.tool.undo_command")

    def _history(self) -> History:
        """Empty where the plan names none. Raises `Against`."""
        try:
            with self.database.connect() as connection:
                found = history.read(connection, self.tool) or History()
        except HistoryUnreadable as error:
            raise Against(str(error)) from None
        if found.wrong:
            raise Against("; ".join(found.wrong))
        return found
