"""The watch outside of Airflow: the same one, for when the triggerer is dead, or all of Airflow.

It moves traffic back by itself; the rest of the rollback is the rollback DAG's, which it starts as soon as Airflow
answers. Two watches are harmless: every move is fenced and compared, and an incident is noted once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from handover.coordination import heartbeat
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.models.deployment import Status
from handover.outside import outside
from handover.ports.airflow import AirflowError
from handover.workflows.rollback.start import start_rollback
from handover.workflows.watch.background import BackgroundAnalysis
from handover.workflows.watch.trigger import subject_of

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.models.evidence import Evidence
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.public import PublicAddress

log = logging.getLogger(__name__)
WATCHER = "service"
LOOK_SECONDS = 1.0
RETRY_SECONDS = 5.0


class WatchService:
    """Watches the deployments of one plan, one after the other."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def run(self) -> None:
        """Until it is cancelled. Whatever goes wrong is said, and tried again."""
        while True:
            try:
                await self.watch_one()
            except Exception:
                log.exception("%s cannot be watched, trying again", self._plan.name)
                await asyncio.sleep(RETRY_SECONDS)

    async def watch_one(self) -> Evidence:
        """Waits for a deployment whose version clients meet, or are about to, and watches it to its end."""
        plan = self._plan
        async with (
            outside().public(plan.traffic.api_connection) as public,
            outside().kube(plan.cluster.connection, plan.cluster.namespace) as kube,
        ):
            while (state := await self._under_way(kube)) is None:
                await asyncio.sleep(LOOK_SECONDS)
            return await self._watch(kube, public, state)

    async def _under_way(self, kube: Kube) -> DeploymentState | None:
        """The deployment that somebody watches, or whose version clients meet though nobody does."""
        plan = self._plan
        state = await states.read(kube, plan.lock_name)
        if state is None or state.status is not Status.DEPLOYING:
            return None
        route = await outside().router(kube, plan.cluster, plan.cluster.service).read()
        if state.preview in route.serving:
            return state
        try:
            return state if await heartbeat.read(kube, plan.lock_name, state.token) else None
        except FencedOut:
            return None

    async def _watch(self, kube: Kube, public: PublicAddress, state: DeploymentState) -> Evidence:
        log.info("watching %s on %s (%s)", state.version, state.preview, state.deployment)
        subject = subject_of(kube, public, self._plan, state, state.preview)
        evidence = await BackgroundAnalysis(subject, "watch", state.deployment, log, WATCHER, records=False).conclude()
        log.info("%s: %s: %s", state.deployment, evidence.verdict, evidence.reason)
        if not evidence.passed:
            await self._roll_back(kube, state, evidence.reason)
        return evidence

    async def _roll_back(self, kube: Kube, watched: DeploymentState, reason: str) -> None:
        """Starts the rollback DAG, unless somebody else has: once Airflow answers, however long that takes."""
        while True:
            state = await states.read(kube, self._plan.lock_name)
            if state is None or state.generation != watched.generation or state.status is not Status.DEPLOYING:
                return
            try:
                run_id = await asyncio.to_thread(start_rollback, self._plan, state.deployment, reason)
            except AirflowError as error:
                log.warning("the rollback DAG cannot be started yet: %s", error)
            else:
                log.info("started %s: %s", run_id, reason)
            await asyncio.sleep(RETRY_SECONDS)
