"""The watches in the triggerer. What is stored of them holds no secret, only ids of connections."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover.coordination import state as states
from handover.models.deployment import DeploymentState, FencingToken
from handover.models.evidence import failed
from handover.outside import outside
from handover.plan.model import Plan
from handover.workflows.watch.analysis_run import AnalysisRun, AnalysisSubject, StableAnalysis
from handover.workflows.watch.background import BackgroundAnalysis
from handover.workflows.watch.sources import sources_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from handover.ports.kube import Kube
    from handover.ports.public import PublicAddress


def subject_of(kube: Kube, public: PublicAddress, plan: Plan, state: DeploymentState, colour: str) -> AnalysisSubject:
    """Of the deployment or rollback that the cluster knows of."""
    router = outside().router(kube, plan.cluster, plan.cluster.service)
    version = state.version if colour == state.preview else state.previous_version
    return AnalysisSubject(
        kube, router, public, plan, state.token, state, colour, partial(sources_of, plan, version, colour)
    )


class WatchTrigger(BaseTrigger):
    """Observes; the event is an `Evidence`, and what the record has not got yet. Started again after a crash, it
    observes from zero.

    :param plan: the `Plan` as JSON
    :param token: the `FencingToken` of the deployment or rollback as JSON
    :param run: the run that watches, for the record
    """

    def __init__(self, *, plan: dict[str, Any], token: dict[str, Any], check: str, run: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan, self.token, self.check, self.run_id = plan, token, check, run

    def arguments(self) -> dict[str, Any]:
        return {"plan": self.plan, "token": self.token, "check": self.check, "run": self.run_id}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    def analysis(self, kube: Kube, public: PublicAddress, plan: Plan, state: DeploymentState) -> AnalysisRun:
        """The deployment's version, until the deployment ends."""
        return BackgroundAnalysis(
            subject_of(kube, public, plan, state, state.preview), self.check, self.run_id, self.log
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        plan, token = Plan.model_validate(self.plan), FencingToken.model_validate(self.token)
        samples: list[dict[str, object]] = []
        async with (
            outside().public(plan.traffic.api_connection) as public,
            outside().kube(plan.cluster.connection, plan.cluster.namespace) as kube,
        ):
            state = await states.read(kube, plan.lock_name)
            if state is None or state.generation != token.generation:
                reason = f"generation {token.generation} is over: {state.deployment if state else 'nobody'} deploys"
                evidence = failed(self.check, f"{reason}; nothing was watched")
            else:
                analysis = self.analysis(kube, public, plan, state)
                self.log.info("watching %s", analysis.subject.colour)
                evidence = await analysis.conclude()
                samples = analysis.samples_left()
        yield TriggerEvent({"evidence": evidence.model_dump(mode="json"), "samples": samples})  # type: ignore[no-untyped-call]


class StableTrigger(WatchTrigger):
    """After a rollback: observes the stable colour for ``seconds``."""

    def __init__(self, *, seconds: float, **common: Any) -> None:
        super().__init__(**common)
        self.seconds = seconds

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"seconds": self.seconds}

    def analysis(self, kube: Kube, public: PublicAddress, plan: Plan, state: DeploymentState) -> AnalysisRun:
        subject = subject_of(kube, public, plan, state, state.stable)
        return StableAnalysis(subject, self.check, self.run_id, self.log, self.seconds)
