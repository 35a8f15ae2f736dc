"""The watch in the triggerer: one `AnalysisRun`, and its event."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover.coordination import state as states
from handover.models.deployment import FencingToken
from handover.models.evidence import failed
from handover.models.incident import OnBreach
from handover.outside import outside
from handover.plan.model import Plan
from handover.workflows.watch.analysis_run import AnalysisRun, AnalysisSubject
from handover.workflows.watch.sources import sources_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class WatchTrigger(BaseTrigger):
    """Observes a colour; the event is an `Evidence`, and what the record has not got yet. Started again after a crash,
    it observes from zero.

    :param plan: the `Plan` as JSON; what is stored of a trigger holds no secret, only ids of connections
    :param token: the `FencingToken` of the deployment or rollback as JSON
    :param colour: ``new`` or ``old``
    :param on_breach, patience, run: as in `AnalysisRun`
    """

    def __init__(
        self, *, plan: dict[str, Any], token: dict[str, Any], check: str, seconds: float, colour: str, on_breach: str,
        patience: float = 0.0, run: str = "",
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan, self.token, self.check = plan, token, check
        self.seconds, self.colour, self.on_breach = seconds, colour, on_breach
        self.patience, self.run_id = patience, run

    def serialize(self) -> tuple[str, dict[str, Any]]:
        same = ("plan", "token", "check", "seconds", "colour", "on_breach", "patience")
        arguments = {name: getattr(self, name) for name in same} | {"run": self.run_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        plan, token = Plan.model_validate(self.plan), FencingToken.model_validate(self.token)
        cluster = plan.cluster
        samples: list[dict[str, object]] = []
        async with (
            outside().public(plan.traffic.api_connection) as public,
            outside().kube(cluster.connection, cluster.namespace) as kube,
        ):
            state = await states.read(kube, plan.lock_name)
            if state is None or state.generation != token.generation:
                reason = f"generation {token.generation} is over: {state.deployment if state else 'nobody'} deploys"
                evidence = failed(self.check, f"{reason}; nothing was watched")
            else:
                colour = token.preview if self.colour == "new" else token.stable
                router = outside().router(kube, cluster, cluster.service)
                sources = partial(sources_of, plan, state.version if self.colour == "new" else state.previous_version)
                subject = AnalysisSubject(kube, router, public, plan, token, state, colour, sources)
                self.log.info("watching %s for %g s", colour, self.seconds)
                analysis = AnalysisRun(
                    subject,
                    self.check,
                    self.seconds,
                    cast(OnBreach, self.on_breach),
                    self.patience,
                    self.run_id,
                    self.log,
                )
                evidence = await analysis.conclude()
                samples = analysis.samples_left()
        yield TriggerEvent({"evidence": evidence.model_dump(mode="json"), "samples": samples})  # type: ignore[no-untyped-call]
