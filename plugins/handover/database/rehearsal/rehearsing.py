"""A rehearsal as a sequence: a copy, this release's migrations forward, the reverse, and forward again (plan 1.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database, cause
from handover.database import ledger, migrations, runner
from handover.database.migrations import Bundle, Script
from handover.database.rehearsal import contents, sampling
from handover.database.rehearsal.contents import Contents, SchemaUnreadable
from handover.database.rehearsal.copies import NoCopy, copied
from handover.database.rehearsal.result import RehearsalResult, ScriptRun, Way, evidence
from handover.database.restore import RestoreFailed
from handover.database.reverse import reverse
from handover.database.storage import BackupDamaged
from handover.database.tools import ToolMissing
from handover.models.evidence import Evidence, failed, unknown
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.plan.model import Plan

log = logging.getLogger(__name__)
REFUSED = (
    runner.MigrationRefused, runner.MigrationFailed, runner.StatementFailed, ledger.Busy, ledger.PooledSession,
    SchemaUnreadable, ToolMissing,
)  # fmt: skip


class Against(Exception):
    """The rehearsal ends here, as this is against the release."""


class Trial:
    """A release's SQL on one copy. Whatever happens on the way, `run` tells what was seen until then."""

    def __init__(self, database: Database, bundle: Bundle, limits: runner.StatementLimits) -> None:
        self.database, self.bundle, self.limits = database, bundle, limits
        self.runs: list[ScriptRun] = []
        self.rows: dict[str, int] = {}

    def run(self) -> tuple[str, ...]:
        """What is against the release."""
        import psycopg

        try:
            if pending := self._pending():
                self._there_and_back(pending)
        except (Against, *REFUSED) as error:
            return (str(error),)
        except psycopg.Error as error:
            return (cause(error),)
        return ()

    def _pending(self) -> tuple[Script, ...]:
        with self.database.connect() as connection:
            rows = ledger.rows(connection)
            found = migrations.pending(self.bundle, rows)
            problems = ledger.obstacles(connection, found) or runner.refusals(self.bundle, rows)
        if problems:
            raise Against(f"the runner would refuse: {'; '.join(problems)}")
        return found

    def _there_and_back(self, pending: Sequence[Script]) -> None:
        before = contents.look(self.database)
        self.rows = {table: digest.rows for table, digest in before.data.items()}
        self._forward(pending, "forward")
        after = contents.schema(self.database)
        if without := [script.name for script in pending if not script.reversible]:
            raise Against(f"{', '.join(without)} has no down.sql: there would be no way back")
        self._back(pending, before)
        self._forward(pending, "forward again")
        if wrong := contents.schema_differences(after, contents.schema(self.database)):
            raise Against(f"forward again makes another schema than at first: {'; '.join(wrong)}")

    def _forward(self, pending: Sequence[Script], way: Way) -> None:
        for script in pending:
            self._measured(script.name, way, self._applying(script))

    def _applying(self, script: Script) -> Callable[[runner.Stop], object]:
        """By the runner, with what is applied already beside it, so that it finds its history complete."""
        with self.database.connect() as connection:
            done = migrations.applied(ledger.rows(connection))
        known = Bundle(tuple(one for one in self.bundle.scripts if one.name in (*done, script.name)))
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


def rehearse(
    check: str, plan: Plan, bundle: Bundle, client: Any, *, server: Database, production: Database
) -> Evidence:
    """Rehearses a release on a copy of the newest verified backup, on ``server``, which must not be production.

    What is against the release or its backup is the evidence's reason; a server that does not answer makes it UNKNOWN.
    """
    import psycopg

    rules, begin = required(plan.rehearsal, "rehearsal"), clock.monotonic()
    try:
        with copied(
            client, plan.backups, server=server, production=production, name=scratch_name(plan),
            max_age_seconds=rules.max_backup_age_seconds,
        ) as copy:  # fmt: skip
            age = clock.epoch() - copy.backup.taken_at
            trial = Trial(copy.database, bundle, runner.StatementLimits.of(plan.database))
            problems = trial.run()
    except (NoCopy, BackupDamaged, RestoreFailed, ToolMissing) as error:
        return failed(check, str(error))
    except psycopg.Error as error:
        return unknown(check, cause(error))
    result = RehearsalResult(
        backup=copy.backup.uri, age_seconds=age, seconds=clock.monotonic() - begin, runs=tuple(trial.runs),
        problems=problems, left_out=copy.left_out,
    )  # fmt: skip
    return evidence(check, result, rules)


def scratch_name(plan: Plan) -> str:
    """The copy's, always the same, so that the plan's settings for tests can name it."""
    return f"{plan.name}_rehearsal"
