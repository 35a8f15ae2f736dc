"""A release tried on a copy: forward, back, and forward again, with its programs' tests on both schemas."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from handover.adapters.postgres import Database, cause
from handover.database import catalog, ledger, migrations, runner
from handover.database.migrations import Bundle, Row, Script
from handover.database.rehearsal import contents, sampling
from handover.database.rehearsal.contents import SchemaUnreadable
from handover.database.rehearsal.programs import NEW, OLD, Astray, Programs
from handover.database.rehearsal.result import ScriptRun, Way
from handover.database.reverse import reverse
from handover.database.tools import ToolMissing

if TYPE_CHECKING:
    from handover.plan.model import Plan

log = logging.getLogger(__name__)
OLD_SCHEMA, NEW_SCHEMA = "the old schema", "the new schema"
TESTS = "tests of old and new version (rehearsal.application_tests)"
REFUSED = (
    runner.MigrationRefused, runner.MigrationFailed, runner.StatementFailed, ledger.Busy, ledger.PooledSession,
    SchemaUnreadable, ToolMissing, Astray,
)  # fmt: skip


class Against(Exception):
    """The trial ends here, as this is against the release."""


class Trial:
    """One trial of SQL on one copy. Whatever happens on the way, `runs` and `problems` tell what was seen until then.

    :param done: names of migrations that production has applied by now
    :param programs: the release's own on the copy
    :param granted: names of what others have rights on in production
    """

    histories: tuple[str, ...] = (catalog.MIGRATIONS_TABLE,)

    def __init__(
        self, plan: Plan, database: Database, bundle: Bundle, *, done: Sequence[str] = (),
        programs: Programs | None = None, granted: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.granted = granted
        self.plan, self.database, self.bundle, self.done, self.programs = plan, database, bundle, tuple(done), programs
        self.limits = runner.StatementLimits.of(plan.database)
        self.pending: tuple[Script, ...] = ()
        self.runs: list[ScriptRun] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.rows: dict[str, int] = {}

    def run(self) -> None:
        import psycopg

        try:
            if self.begin():
                self._there_and_back()
        except (Against, *REFUSED) as error:
            self.problems.append(str(error))
        except psycopg.Error as error:
            self.problems.append(cause(error))

    def begin(self) -> bool:
        """Whether there is anything to try, once the copy is where production is by now. Raises `Against`."""
        with self.database.connect() as connection:
            rows = ledger.rows(connection)
            pending = migrations.pending(self.bundle, rows)
            problems = ledger.obstacles(connection, pending) or self.refusals(rows)
        if problems:
            raise Against(f"it would be refused: {'; '.join(problems)}")
        if ahead := [name for name in migrations.applied(rows) if name not in self.done]:
            raise Against(f"{', '.join(ahead)} is applied in the backup and not in production: take a new one")
        for script in pending:
            if script.name in self.done:
                self._applying(script)(runner.Never())
        self.pending = tuple(script for script in pending if script.name not in self.done)
        return bool(self.pending)

    def refusals(self, rows: list[Row]) -> list[str]:
        return runner.refusals(self.bundle, rows)

    def forward(self, way: Way) -> None:
        for script in self.pending:
            self.measured(script.name, way, self._applying(script))

    def back(self) -> None:
        for script in reversed(self.pending):
            try:
                self.measured(script.name, "reverse", partial(reverse, self.database, [script], self.limits))
            except runner.StatementFailed as error:
                raise Against(f"the reverse of {script.name} fails: {error}") from error

    def without_a_way_back(self) -> str:
        """Why it cannot be taken back, "" when it can."""
        without = ", ".join(script.name for script in self.pending if not script.reversible)
        return without and f"{without} has no down.sql"

    def _there_and_back(self) -> None:
        if self.programs:
            self.programs.aimed_at(self.database.name)
        before = contents.look(self.database, self.histories)
        self.rows = {table: digest.rows for table, digest in before.data.items()}
        self._tested(OLD_SCHEMA)
        self.forward("forward")
        after, old_runs = self._schema(), self._tested(NEW_SCHEMA)
        if without := self.without_a_way_back():
            if not old_runs:
                raise Against(f"{without}, and nothing shows that the old version runs on {NEW_SCHEMA}")
            self.left_out.append(f"the way back ({without}, and the old version runs on {NEW_SCHEMA})")
            return
        self.back()
        if wrong := contents.differences(before, contents.look(self.database, self.histories), self.granted):
            raise Against(f"the reverse does not bring back what was there before: {'; '.join(wrong)}")
        self.forward("forward again")
        if wrong := contents.schema_differences(after, self._schema()):
            raise Against(f"forward again makes another schema than at first: {'; '.join(wrong)}")

    def _schema(self) -> dict[str, tuple[str, ...]]:
        return contents.schema(self.database, self.histories)

    def _tested(self, schema: str) -> bool:
        """Whether the old version is known to run on the schema that the copy has now."""
        if self.programs is None or not self.programs.rules.application_tests:
            self.left_out += [] if TESTS in self.left_out else [TESTS]
            return False
        meets = (OLD,) if schema == OLD_SCHEMA and self.plan.migrates_first else (OLD, NEW)
        found = self.programs.tested(schema, meets)
        self.problems += [problem for problems in found.values() for problem in problems]
        return not found[OLD]

    def _applying(self, script: Script) -> Callable[[runner.Stop], object]:
        """By the runner, with what is applied already beside it, so that it finds its history complete."""
        with self.database.connect() as connection:
            there = migrations.applied(ledger.rows(connection))
        known = Bundle(tuple(one for one in self.bundle.scripts if one.name in (*there, script.name)))
        return partial(runner.apply, self.database, known, self.limits)

    def measured(self, name: str, way: Way, work: Callable[[runner.Stop], object]) -> None:
        with sampling.looking(self.database, self.histories) as look:
            work(look)
        self.runs.append(sampling.told(look, name, way, self.rows))
        log.info("%s, %s: %.2f s", name, way, look.seconds)
