"""Rehearses the release of an image, wherever that is asked for: in the readiness, and on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from handover.adapters.postgres import database
from handover.database import release, storage
from handover.database.migrations import Bundle, BundleError
from handover.database.rehearsal.rehearsing import rehearse
from handover.models.evidence import Evidence, failed
from handover.outside import outside

if TYPE_CHECKING:
    from handover.plan.model import Plan


def rehearse_release(check: str, plan: Plan, image: str, key: str) -> Evidence:
    """The verdict on the migrations of an image, which is given by digest.

    :param key: who asks; one that was killed and asks again finds its Jobs
    """
    try:
        bundle = asyncio.run(_bundle(plan, image, key))
    except BundleError as error:
        return failed(check, str(error))
    return rehearse(
        check, plan, bundle, storage.s3(plan.backups.connection),
        server=database(plan.backups.restore_connection), production=database(plan.database.primary_connection),
    )  # fmt: skip


async def _bundle(plan: Plan, image: str, key: str) -> Bundle:
    async with outside().kube(plan.cluster.connection, plan.cluster.namespace) as kube:
        return await release.bundle(kube, plan, image, f"{key}/rehearsal")
