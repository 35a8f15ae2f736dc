"""Section `watch` of the plan: how a release is watched, and what a breach does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from handover.models.incident import Severity
from handover.models.measures import Phase, Response
from handover.plan.parts import Count, Seconds, Section


def usual_response(phase: Phase, severity: Severity) -> Response:
    """Until the decision point every breach is rolled back (plan "When to Rollback"); after it a critical one is asked
    about as long as somebody is there to be asked, and people are told of the others (5.3).
    """
    if phase not in (Phase.MONITORING, Phase.RETIREMENT):
        return Response.ABORT
    if severity is not Severity.CRITICAL:
        return Response.NOTE
    return Response.ASK if phase is Phase.MONITORING else Response.ABORT


class WatchRules(Section):
    after_switch_seconds: Seconds
    stabilization_seconds: Seconds
    after_rollback_seconds: Seconds
    probe_interval_seconds: Seconds
    probe_timeout_seconds: Seconds
    metrics_interval_seconds: Seconds
    slow_interval_seconds: Seconds
    window_seconds: Seconds
    sustained_seconds: Seconds
    min_bad_samples: Annotated[int, Field(ge=2)]
    confidence_z: Annotated[float, Field(ge=1, le=6)]
    no_data_seconds: Seconds
    min_requests: Count
    on_breach: dict[Phase, dict[Severity, Response]] = Field(default_factory=dict)
    """What is not named here is as `usual_response` has it."""

    def response_to(self, phase: Phase, severity: Severity) -> Response:
        """What a breach of this severity does in this phase."""
        return self.on_breach.get(phase, {}).get(severity) or usual_response(phase, severity)

    @model_validator(mode="after")
    def _every_breach_can_be_answered(self) -> WatchRules:
        for phase, said in self.on_breach.items():
            for severity, response in said.items():
                if why := _impossible(phase, severity, response):
                    raise ValueError(f"on_breach: {response} a {severity} breach in {phase}: {why}")
        return self


def _impossible(phase: Phase, severity: Severity, response: Response) -> str:
    if response is Response.WAIT:
        return "somebody has to act on it"
    if response is Response.ASK and phase is not Phase.MONITORING:
        return "nobody is asked then, so it would go on until somebody looks"
    if response is Response.CANCEL_MIGRATION and phase is not Phase.MIGRATION:
        return "there is no migration"
    if response is Response.NOTE and severity is Severity.CRITICAL:
        return "clients would keep meeting it"
    return ""
