"""Rehearses the release of an image, wherever that is asked for: in the readiness, and on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from handover.adapters.postgres import Database, database
from handover.database import ledger, migrations, release, storage
from handover.database.migrations import Bundle, BundleError
from handover.database.rehearsal import rights
from handover.database.rehearsal.by_release import PrismaTrial, ToolTrial
from handover.database.rehearsal.programs import Programs
from handover.database.rehearsal.rehearsing import rehearse
from handover.database.rehearsal.trial import Trial
from handover.models.evidence import Evidence, failed, passed
from handover.outside import outside
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.models.deployment import MigrationMethod
    from handover.plan.model import Plan


def rehearse_release(
    check: str, plan: Plan, image: str, key: str, *, old: str = "", method: MigrationMethod = "sql"
) -> Evidence:
    """The verdict on the migrations of an image. Images are given by digest.

    :param key: who asks; one that was killed and asks again finds its Jobs
    :param old: the image that serves, for its tests; "" where nobody knows it
    """
    if method == "none":
        return passed(check, "the release is asked for without a migration")
    rules = required(plan.rehearsal, "rehearsal")
    programs = Programs(plan, key, new=image, old=old) if rules.settings_secret else None
    production = database(plan.database.primary_connection)
    try:
        trial_of = _trials(plan, asyncio.run(_bundle(plan, image, key)), programs, production, method)
    except (BundleError, NotTried) as error:
        return failed(check, str(error))
    return rehearse(
        check, plan, trial_of, storage.s3(plan.backups.connection),
        server=database(plan.backups.restore_connection), production=production,
    )  # fmt: skip


class NotTried(Exception):
    """This way of migrating cannot be pointed at a copy by this plan."""


def _trials(
    plan: Plan, bundle: Bundle, programs: Programs | None, production: Database, method: MigrationMethod
) -> Callable[[Database], Trial]:
    if plan.database.tool is None and method == "sql":
        return lambda copy: Trial(
            plan, copy, bundle, done=_applied(production), programs=programs, granted=_granted(production)
        )
    if programs is None:
        raise NotTried("left out: the release migrates by itself, and the plan has no rehearsal.settings_secret for it")
    if plan.database.tool:
        return lambda copy: ToolTrial(plan, copy, bundle, programs=programs, granted=_granted(production))
    return lambda copy: PrismaTrial(
        plan, copy, bundle, done=_applied(production), programs=programs, granted=_granted(production)
    )


def _applied(production: Database) -> tuple[str, ...]:
    with production.connect() as connection:
        return migrations.applied(ledger.rows(connection))


def _granted(production: Database) -> frozenset[str]:
    with production.connect() as connection:
        return rights.granted(connection)


async def _bundle(plan: Plan, image: str, key: str) -> Bundle:
    """Empty where a tool of the release migrates."""
    if plan.database.tool:
        return Bundle(())
    async with outside().kube(plan.cluster.connection, plan.cluster.namespace) as kube:
        return await release.bundle(kube, plan, image, f"{key}/rehearsal")
