"""A rehearsal as a whole: a copy of production's data, the release tried on it, the copy dropped (plan 1.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database, cause
from handover.database.apart import NotApart
from handover.database.rehearsal.copies import NoCopy, copied
from handover.database.rehearsal.result import RehearsalResult, evidence
from handover.database.rehearsal.trial import Trial
from handover.database.restore import RestoreFailed
from handover.database.storage import BackupDamaged
from handover.database.tools import ToolMissing
from handover.models.evidence import Evidence, failed, unknown
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.plan.model import Plan


def rehearse(
    check: str,
    plan: Plan,
    trial_of: Callable[[Database], Trial],
    client: Any,
    *,
    server: Database,
    production: Database,
) -> Evidence:
    """Rehearses a release, by its trial on a copy of the newest verified backup, on ``server``.

    What is against the release or its backup is the evidence's reason; a server that does not answer makes it UNKNOWN.
    """
    import psycopg

    rules, begin = required(plan.rehearsal, "rehearsal"), clock.monotonic()
    try:
        with copied(
            client, plan.backups, server=server, production=production, name=scratch_name(plan),
            max_age_seconds=rules.max_backup_age_seconds,
        ) as copy:  # fmt: skip
            trial = trial_of(copy.database)
            trial.run()
    except (NotApart, NoCopy, BackupDamaged, RestoreFailed, ToolMissing) as error:
        return failed(check, str(error))
    except psycopg.Error as error:
        return unknown(check, cause(error))
    result = RehearsalResult(
        backup=copy.backup.uri, age_seconds=clock.epoch() - copy.backup.taken_at, seconds=clock.monotonic() - begin,
        runs=tuple(trial.runs), problems=tuple(trial.problems), left_out=(*trial.left_out, *copy.left_out),
    )  # fmt: skip
    return evidence(check, result, rules)


def scratch_name(plan: Plan) -> str:
    """The copy's, always the same, so that the plan's settings for tests can name it."""
    return f"{plan.name}_rehearsal"
