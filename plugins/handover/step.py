"""The base of every step of the plan: it runs, shows its evidence, and fails unless the verdict is a pass."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from handover.evidence_seal import NotSealed, key_problem, leave, left
from handover.foundation import EVIDENCE_KEY, Founded
from handover.models.deployment import DeploymentState, FencingToken, Release
from handover.models.evidence import Evidence, failed, passed
from handover.models.redaction import redacted
from handover.outside import outside
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.models.measures import Phase
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.public import PublicAddress
    from handover.ports.router import Router

log = logging.getLogger(__name__)
MAX_REASON = 10_000
"""Characters of an evidence's reason: what is longer is for the log."""
FENCING_KEY = "fencing_token"
RELEASE_KEY = "release"
LOST_TRIGGERER = datetime.timedelta(seconds=60)
"""A wait ends by its trigger's own deadline; Airflow's timeout comes this much later, for a lost triggerer."""


@dataclass(frozen=True)
class StepRun:
    """What a step is told: the plan, the release, and the fencing token of its deployment."""

    plan: Plan
    context: Any
    opened_by: str

    @property
    def token(self) -> FencingToken:
        """Raises `AirflowFailException` when the deployment was never opened."""
        return FencingToken.model_validate(self._pull(FENCING_KEY))

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
        cluster = self.plan.cluster
        async with outside().kube(cluster.connection, namespace or cluster.namespace) as kube:
            yield kube

    def router(self, kube: Kube, service: str | None = None) -> Router:
        """Who serves; by default behind the public address."""
        return outside().router(kube, self.plan.cluster, service or self.plan.cluster.service)

    def public(self) -> AbstractAsyncContextManager[PublicAddress]:
        """The public address."""
        return outside().public(self.plan.traffic.api_connection)

    async def fenced(self, kube: Kube) -> None:
        """Call before every change of production; raises `handover.coordination.lock.FencedOut`."""
        from handover.coordination import lock

        await lock.fence(kube, self.plan.lock_name, self.token)

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
        from handover.coordination import state

        return await state.update(kube, self.plan.lock_name, self.token, change)

    async def deploying(self) -> str:
        """Who deploys or rolls back now, and why; "" when nobody does."""
        from handover.coordination import lock

        async with self.kube() as kube:
            return await lock.holder(kube, self.plan.lock_name)

    async def enter(self, phase: Phase) -> None:
        """Tells whoever watches where the deployment is by now."""
        async with self.kube() as kube:
            await self.change(kube, lambda old: old.entering(phase))

    def _pull(self, key: str) -> Any:
        """Only what the opening step left itself. Where no seal can be looked at, what lies there: a deployment is
        stopped by its branches then, and a rollback goes on.
        """
        ti = self.context["ti"]
        try:
            found = ti.xcom_pull(task_ids=self.opened_by, key=key) if key_problem() else left(ti, self.opened_by, key)
        except NotSealed as error:
            raise AirflowFailException(str(error)) from None
        if found is None:
            raise AirflowFailException(f"task {self.opened_by} left no {key}: this deployment was never opened")
        return found


def skipped(reason: str) -> AirflowSkipException:
    """To be raised: ends the task, and what is behind it, skipped. Airflow's own log would not tell why."""
    log.info("%s", reason)
    return AirflowSkipException(reason)


class Step(Founded, BaseOperator):
    """One step of the plan. Subclasses say what to do in `work` and conclude with an `Evidence`.

    A verdict that is not a pass fails the task for good; an exception (a network that was away) is retried by
    Airflow's own policy. ``plan`` and ``opened_by`` come from the DAG's default_args.

    What the plan leaves out (see `needs`) passes, and says so.

    :param watched_in: the phase of the watch that begins with this step, unless it has begun
    """

    def __init__(self, *, plan: Plan, opened_by: str = "open", watched_in: Phase | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.opened_by = opened_by
        self.watched_in = watched_in

    needs: ClassVar[str] = ""
    """The part that this step is of, where a plan may be without it, as ``health.error_tracker_connection``."""

    def work(self, run: StepRun) -> Evidence:
        """Does the step; may run twice or be killed half-way, and then finds what is done. By default: `act`."""
        return asyncio.run(self.act(run))

    async def act(self, run: StepRun) -> Evidence:
        """The same for steps that speak with the outside asynchronously."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        run = self.step_run(context)
        with self._refusals_shown(context):
            if self.watched_in:
                asyncio.run(run.enter(self.watched_in))
            left_out = self.left_out()
            return self.conclude(context, passed(self.task_id, left_out) if left_out else self.work(run))

    def left_out(self) -> str:
        """Why there is nothing to do, "" when there is."""
        value: Any = self.plan
        for key in self.needs.split(".") if self.needs else ():
            if not (value := getattr(value, key)):
                return f"left out: the plan has no {self.needs}"
        return ""

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

    def step_run(self, context: Context) -> StepRun:
        return StepRun(self.plan, context, self.opened_by)

    def conclude(self, context: Context, evidence: Evidence) -> str:
        """Leaves the evidence for the branch, says it in the log, and fails the task unless it passed. Its reason may
        have words of others in it: it is cut, and what looks like a secret is hidden, before anybody has it.
        """
        evidence = _tellable(evidence)
        self._leave(context, evidence)
        for m in evidence.measurements[:50]:
            self.log.info("measured %s = %s %s (%s)", m.what, m.value, m.unit, m.source)
        if not evidence.passed:
            raise AirflowFailException(f"{evidence.check}: {evidence.verdict}: {evidence.reason}")
        self.log.info("%s: pass: %s", evidence.check, evidence.reason)
        return evidence.reason

    @contextmanager
    def _refusals_shown(self, context: Context) -> Iterator[None]:
        """What the cluster forbids or does not take (a role, an admission, a quota) is the step's reason. It is tried
        again all the same: any of them may be mended.
        """
        try:
            yield
        except KubeError as error:
            if error.refusal:
                self._leave(context, _tellable(failed(self.task_id, str(error))))
            raise

    def _leave(self, context: Context, evidence: Evidence) -> None:
        leave(context["ti"], EVIDENCE_KEY, evidence.model_dump(mode="json"))


def _tellable(evidence: Evidence) -> Evidence:
    return evidence.model_copy(update={"reason": redacted(evidence.reason)[:MAX_REASON]})
