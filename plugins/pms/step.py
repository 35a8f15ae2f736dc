"""The base of every step of the plan: it runs, shows its evidence, and fails unless the verdict is a pass."""

from __future__ import annotations

import abc
import datetime
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from pms.kube.client import Forbidden
from pms.models.deployment import DeploymentState, Release, Ticket
from pms.models.evidence import Evidence, failed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pms.kube.client import Kube
    from pms.plan.model import Plan

log = logging.getLogger(__name__)
EVIDENCE_KEY = "evidence"
"""XCom key under which every step leaves its `Evidence`, passed or not; the branches read it."""
TICKET_KEY = "ticket"
RELEASE_KEY = "release"
LOST_TRIGGERER = datetime.timedelta(seconds=60)
"""A wait ends by its trigger's own deadline; Airflow's timeout comes this much later, for a lost triggerer."""


@dataclass(frozen=True)
class Job:
    """What a step is told: the plan, the release, and the ticket that its deployment holds."""

    plan: Plan
    context: Any
    ticket_from: str

    @property
    def ticket(self) -> Ticket:
        """Raises `AirflowFailException` when the deployment was never opened."""
        return Ticket.model_validate(self._pull(TICKET_KEY))

    @property
    def release(self) -> Release:
        return Release.model_validate(self._pull(RELEASE_KEY))

    @property
    def run_id(self) -> str:
        return self.context["run_id"]

    @property
    def asked_by(self) -> str:
        """Who started this run: a user of this Airflow, or its schedule."""
        return getattr(self.context.get("dag_run"), "triggering_user_name", None) or "schedule"

    @asynccontextmanager
    async def kube(self, namespace: str | None = None) -> AsyncIterator[Kube]:
        """The cluster of the plan; by default its production namespace."""
        from pms.kube.client import connect

        async with connect(self.plan.cluster.connection, namespace or self.plan.cluster.namespace) as kube:
            yield kube

    async def fenced(self, kube: Kube) -> None:
        """Call before every change of production; raises `pms.kube.lock.FencedOut`."""
        from pms.kube import lock

        await lock.fence(kube, self.plan.lock_name, self.ticket)

    async def state(self, kube: Kube) -> DeploymentState:
        """What the current deployment knows; raises `NoDeployment`, or `FencedOut` for another generation's."""
        return await self.remember(kube)

    async def known(self) -> DeploymentState:
        """Like `state`, with a connection of its own, for a step that needs nothing else of the cluster."""
        async with self.kube() as kube:
            return await self.state(kube)

    async def remember(self, kube: Kube, **changes: Any) -> DeploymentState:
        """Stores facts that a later step or the rollback needs, e.g. ``remember(kube, banner=True)``."""
        return await self.change(kube, lambda old: old.model_copy(update=changes) if changes else old)

    async def change(self, kube: Kube, change: Callable[[DeploymentState], DeploymentState]) -> DeploymentState:
        """Like `remember` for a fact within a fact, which a step beside this one may change at the same time."""
        from pms.kube import state

        return await state.update(kube, self.plan.lock_name, self.ticket, change)

    def _pull(self, key: str) -> Any:
        found = self.context["ti"].xcom_pull(task_ids=self.ticket_from, key=key)
        if found is None:
            raise AirflowFailException(f"task {self.ticket_from} left no {key}: this deployment was never opened")
        return found


def skipped(reason: str) -> AirflowSkipException:
    """To be raised: ends the task, and what is behind it, skipped. Airflow's own log would not tell why."""
    log.info("%s", reason)
    return AirflowSkipException(reason)


class Step(BaseOperator):
    """One step of the plan. Subclasses say what to do in `work` and conclude with an `Evidence`.

    A verdict that is not a pass fails the task for good; an exception (a network that was away) is retried by
    Airflow's own policy. ``plan`` and ``ticket_from`` come from the DAG's default_args.
    """

    def __init__(self, *, plan: Plan, ticket_from: str = "open", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.ticket_from = ticket_from

    @abc.abstractmethod
    def work(self, job: Job) -> Evidence:
        """Does the step; may run twice or be killed half-way, and then finds what is done."""

    def execute(self, context: Context) -> Any:
        with self._refusals_shown(context):
            return self.conclude(context, self.work(self.job(context)))

    def waiting(self, trigger: Any, seconds: float) -> TaskDeferred:
        """To be raised: gives the worker slot back until ``trigger`` has an event, then goes on in `resume`."""
        timeout = datetime.timedelta(seconds=seconds) + LOST_TRIGGERER
        return TaskDeferred(trigger=trigger, method_name="resumed", timeout=timeout)

    def resumed(self, context: Context, event: Any) -> Any:
        """Where Airflow goes on."""
        with self._refusals_shown(context):
            return self.resume(context, event)

    def resume(self, context: Context, event: Any) -> Any:
        """After `waiting`; by default the event is the `Evidence` as JSON."""
        return self.conclude(context, Evidence.model_validate(event))

    def job(self, context: Context) -> Job:
        return Job(self.plan, context, self.ticket_from)

    def conclude(self, context: Context, evidence: Evidence) -> str:
        """Leaves the evidence for the branch, says it in the log, and fails the task unless it passed."""
        self._leave(context, evidence)
        for m in evidence.measurements[:50]:
            self.log.info("measured %s = %s %s (%s)", m.what, m.value, m.unit, m.source)
        if not evidence.passed:
            raise AirflowFailException(f"{evidence.check}: {evidence.verdict}: {evidence.reason}")
        self.log.info("%s: pass: %s", evidence.check, evidence.reason)
        return evidence.reason

    @contextmanager
    def _refusals_shown(self, context: Context) -> Iterator[None]:
        """What the cluster forbids is the step's reason. It is tried again all the same: a role may be mended."""
        try:
            yield
        except Forbidden as error:
            self._leave(context, failed(self.task_id, str(error)))
            raise

    def _leave(self, context: Context, evidence: Evidence) -> None:
        context["ti"].xcom_push(key=EVIDENCE_KEY, value=evidence.model_dump(mode="json"))
