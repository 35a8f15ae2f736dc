"""Lines of the checklist that need more than a look: the work of other concerns, before any deployment is open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.models.evidence import Evidence, Measurement, combined, failed, unknown
from handover.models.image_reference import ImageReference
from handover.plan.parts import required
from handover.readiness.operators import subject_of
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.models.readiness import Subject
    from handover.plan.model import Plan


class TestedBackup(Step):
    """Takes a full backup of production now and restores it elsewhere; the measured time is that of the RTO."""

    needs = "backup"

    def work(self, run: StepRun) -> Evidence:
        from handover.adapters.postgres import database
        from handover.database import storage
        from handover.database.dump import DumpFailed, dump_to_s3
        from handover.database.encryption import BadKey, key_of
        from handover.database.operators import too_small
        from handover.database.restore_test import prove_restore
        from handover.database.tools import ToolMissing

        plan: Plan = self.plan
        client, primary = storage.s3(plan.backups.connection), database(plan.database.primary_connection)
        secret = key_of(plan.backups)
        ending = f"_{re.sub(r'[^A-Za-z0-9]+', '-', run.run_id)}.dump"
        storage.abort_leftovers(client, plan.backups.bucket, f"{plan.backups.prefix}readiness_", ending)
        key = f"{plan.backups.prefix}readiness_{clock.utc():%Y%m%d_%H%M%S}{ending}"
        try:
            taken = dump_to_s3(
                primary, client, plan.backups.bucket, key,
                compression=plan.backups.compression, content_digest=plan.backups.content_digest, encrypt_with=secret,
                timeout_seconds=plan.backups.timeout_seconds,
            )  # fmt: skip
        except (DumpFailed, ToolMissing, BadKey) as error:
            return failed(self.task_id, str(error))
        record = taken.record
        size = Measurement(what="backup_size_bytes", value=record.size_bytes, unit="B", source=record.uri)
        if record.size_bytes < plan.backups.min_bytes:
            storage.delete(client, plan.backups.bucket, key)
            return failed(self.task_id, too_small(record.size_bytes, plan.backups.min_bytes), size)
        tested = prove_restore(
            self.task_id, record, client, server=database(plan.backups.restore_connection), production=primary,
            scratch=f"{plan.name}_readiness_test", open_with=secret, timeout_seconds=plan.backups.timeout_seconds,
        )  # fmt: skip
        return tested.model_copy(update={"measurements": (size, *tested.measurements)})


class RehearseRelease(Step):
    """Tries the release's migrations on a copy of production's data: see `handover.database.rehearsal`."""

    needs = "rehearsal"

    def work(self, run: StepRun) -> Evidence:
        from handover.database.rehearsal.release import rehearse_release

        subject = subject_of(run)
        if not subject.digest:
            return unknown(self.task_id, f"the registry did not tell the digest of {subject.image}")
        image = str(ImageReference.parse(subject.image).at(subject.digest))
        method = self.plan.database.methods[0]
        return rehearse_release(self.task_id, self.plan, image, run.run_id, old=self._serving(subject), method=method)

    def _serving(self, subject: Subject) -> str:
        """The image that serves, by digest, where the rehearsal tests it; "" where nobody can tell."""
        from handover.workload.registry import pinned

        if not subject.previous or not required(self.plan.rehearsal, self.needs).application_tests:
            return ""
        try:
            return pinned(self.plan, self.plan.image.of(subject.previous))
        except Exception as error:
            self.log.warning("the image of %s is not known: %s", subject.previous, type(error).__name__)
            return ""


class DataChecks(Step):
    """Runs the plan's SQL checks of schema and data on the first replica: they can be run, and hold today."""

    needs = "migration"

    def left_out(self) -> str:
        plan = self.plan.migration
        if plan is None or plan.schema_check or plan.integrity_checks or plan.critical_queries:
            return super().left_out()
        return "left out: the plan has no schema_check, integrity_checks or critical_queries"

    def work(self, run: StepRun) -> Evidence:
        from handover.adapters.postgres import database
        from handover.database import validation

        plan = self.plan.database
        parts: list[Evidence] = []
        with database((*plan.replica_connections, plan.primary_connection)[0]).connect() as connection:
            for name in (plan.schema_check, plan.integrity_checks):
                parts += [
                    validation.run(connection, query, max_seconds=plan.statement_timeout_seconds)
                    for query in validation.load(name)
                ]
            parts += [
                validation.run(connection, query, max_seconds=plan.max_query_seconds)
                for query in validation.load(plan.critical_queries)
            ]
        found = combined(self.task_id, parts)
        return found.model_copy(update={"reason": f"{len(parts)} checks hold"}) if found.passed else found


def step_of(name: str, plan: Plan, **task: Any) -> Step:
    """The task of a line with ``step``; the names are `handover.readiness.checklist.STEPS`."""
    from handover.database.sensors import ReplicationLag

    if name == "replication_lag":
        return ReplicationLag(plan=plan, limit_seconds=plan.thresholds.max_replication_lag_seconds, **task)
    steps: dict[str, type[Step]] = {
        "data_checks": DataChecks, "rehearsal": RehearseRelease, "tested_backup": TestedBackup,
    }  # fmt: skip
    return steps[name](plan=plan, **task)
