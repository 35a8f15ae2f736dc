"""A release tried on a copy: forward, back, and forward again, with its programs' tests on both schemas."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from handover.adapters.postgres import Database, cause
from handover.database import ledger, migrations, runner
from handover.database.migrations import Bundle, Script
from handover.database.rehearsal import contents, sampling
from handover.database.rehearsal.contents import Contents, SchemaUnreadable
from handover.database.rehearsal.programs import NEW, OLD, Astray, Programs
from handover.database.rehearsal.result import ScriptRun, Way
from handover.database.reverse import reverse
from handover.database.tools import ToolMissing

log = logging.getLogger(__name__)
OLD_SCHEMA, NEW_SCHEMA = "the old schema", "the new schema"
REFUSED = (
    runner.MigrationRefused, runner.MigrationFailed, runner.StatementFailed, ledger.Busy, ledger.PooledSession,
    SchemaUnreadable, ToolMissing, Astray,
)  # fmt: skip


class Against(Exception):
    """The trial ends here, as this is against the release."""


class Trial:
    """One trial of SQL on one copy. Whatever happens on the way, `runs` and `problems` tell what was seen until then.

    :param done: names of migrations that production has applied by now
    :param before_cutover: the new version never meets the old schema
    """

    def __init__(
        self, database: Database, bundle: Bundle, limits: runner.StatementLimits, *, done: Sequence[str] = (),
        programs: Programs | None = None, before_cutover: bool = False,
    ) -> None:  # fmt: skip
        self.database, self.bundle, self.limits, self.done = database, bundle, limits, tuple(done)
        self.programs, self.before_cutover = programs, before_cutover
        self.runs: list[ScriptRun] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.rows: dict[str, int] = {}

    def run(self) -> None:
        import psycopg

        try:
            if pending := self._pending():
                self._aim()
                self._there_and_back(pending)
        except (Against, *REFUSED) as error:
            self.problems.append(str(error))
        except psycopg.Error as error:
            self.problems.append(cause(error))

    def _aim(self) -> None:
        if self.programs is None or not self.programs.needed:
            self.programs = None
            self.left_out.append("tests of old and new version (rehearsal.application_tests)")
        else:
            self.programs.aimed_at(self.database.name)

    def _pending(self) -> tuple[Script, ...]:
        """What the release adds, once the copy is where production is by now."""
        with self.database.connect() as connection:
            rows = ledger.rows(connection)
            pending = migrations.pending(self.bundle, rows)
            problems = ledger.obstacles(connection, pending) or runner.refusals(self.bundle, rows)
        if problems:
            raise Against(f"the runner would refuse: {'; '.join(problems)}")
        if ahead := [name for name in migrations.applied(rows) if name not in self.done]:
            raise Against(f"{', '.join(ahead)} is applied in the backup and not in production: take a new one")
        for script in pending:
            if script.name in self.done:
                self._applying(script)(runner.Never())
        return tuple(script for script in pending if script.name not in self.done)

    def _there_and_back(self, pending: Sequence[Script]) -> None:
        before = contents.look(self.database)
        self.rows = {table: digest.rows for table, digest in before.data.items()}
        self._tested(OLD_SCHEMA)
        self._forward(pending, "forward")
        after, old_runs = contents.schema(self.database), self._tested(NEW_SCHEMA)
        if without := ", ".join(script.name for script in pending if not script.reversible):
            if not old_runs:
                raise Against(f"{without} has no down.sql, and nothing shows that the old version runs without it")
            self.left_out.append(f"the way back ({without} has no down.sql, and the old version runs without it)")
            return
        self._back(pending, before)
        self._forward(pending, "forward again")
        if wrong := contents.schema_differences(after, contents.schema(self.database)):
            raise Against(f"forward again makes another schema than at first: {'; '.join(wrong)}")

    def _tested(self, schema: str) -> bool:
        """Whether the old version is known to run on the schema that the copy has now."""
        if self.programs is None:
            return False
        meets = (OLD,) if schema == OLD_SCHEMA and self.before_cutover else (OLD, NEW)
        found = self.programs.tested(schema, meets)
        self.problems += [problem for problems in found.values() for problem in problems]
        return not found[OLD]

    def _forward(self, pending: Sequence[Script], way: Way) -> None:
        for script in pending:
            self._measured(script.name, way, self._applying(script))

    def _applying(self, script: Script) -> Callable[[runner.Stop], object]:
        """By the runner, with what is applied already beside it, so that it finds its history complete."""
        with self.database.connect() as connection:
            there = migrations.applied(ledger.rows(connection))
        known = Bundle(tuple(one for one in self.bundle.scripts if one.name in (*there, script.name)))
        return partial(runner.apply, self.database, known, self.limits)

    def _back(self, pending: Sequence[Script], before: Contents) -> None:
        for script in reversed(pending):
            try:
                self._measured(script.name, "reverse", partial(reverse, self.database, [script], self.limits))
            except runner.StatementFailed as error:
                raise Against(f"the reverse of {script.name} fails: {error}") from error
        if wrong := contents.differences(before, contents.look(self.database)):
            raise Against(f"the reverse does not bring back what was there before: {'; '.join(wrong)}")

    def _measured(self, name: str, way: Way, work: Callable[[runner.Stop], object]) -> None:
        with sampling.looking(self.database) as look:
            work(look)
        self.runs.append(sampling.told(look, name, way, self.rows))
        log.info("%s, %s: %.2f s", name, way, look.seconds)
