"""What a watch does: whether there is still something to watch, and what a breach means at this moment. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.incident import Resolution, given_up, pending
from handover.models.measures import Response
from handover.ports.router import Stage

if TYPE_CHECKING:
    from handover.analysis.judge import Finding
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.models.incident import Severity
    from handover.plan.watch import WatchRules
    from handover.ports.router import Route


class Standing(StrEnum):
    """Where the version that is watched stands."""

    ARMED = "armed"
    """Clients do not meet it yet."""
    EXPOSED = "exposed"
    """Clients meet it: some of them, or all."""
    ENDED = "ended"
    """The deployment has ended well."""
    LOST = "lost"
    """Traffic is not its any more, or never will be."""


def standing(route: Route, state: DeploymentState, token: FencingToken) -> tuple[Standing, str]:
    """With the reason. ``state`` is no older than the token."""
    if state.deployment == token.deployment and state.status is Status.SUCCEEDED:
        return Standing.ENDED, f"{state.version} stays on {token.preview}"
    if state.generation != token.generation or state.status is not Status.DEPLOYING:
        return Standing.LOST, f"generation {token.generation} is over: {state.deployment} is {state.status}"
    ours = route.generation == token.generation and route.deployment == token.deployment
    moved_by_now = ours and route.stage in (Stage.PROMOTED, Stage.FINALISED, Stage.RETIRING)
    if route.generation > token.generation or (ours and route.stage is Stage.ABORTED):
        return Standing.LOST, _gone(route, token)
    if token.preview in route.serving:
        return Standing.EXPOSED, ""
    return (Standing.LOST, _gone(route, token)) if moved_by_now else (Standing.ARMED, "")


def _gone(route: Route, token: FencingToken) -> str:
    return f"traffic is not on {token.preview} any more: {route}"


def response(state: DeploymentState, severity: Severity, rules: WatchRules) -> Response:
    """What the plan says of this severity in this phase. Where the lead is asked (5.3), that is once: meanwhile nothing
    else is told, and a second breach, after a fix, is rolled back. So is one that the lead does not want to mend, and
    nobody waits for a DAG to begin.
    """
    wanted = rules.response_to(state.phase, severity)
    if wanted in (Response.ABORT, Response.CANCEL_MIGRATION):
        return wanted
    if given_up(state.incidents):
        return Response.ABORT
    if pending(state.incidents):
        return Response.WAIT
    mended = any(one.outcome is Resolution.FIXED for one in state.incidents)
    return Response.ABORT if mended and wanted is Response.ASK else wanted


def at_the_end(
    verdict: Verdict, finding: Finding | None, state: DeploymentState, rules: WatchRules
) -> tuple[Verdict, str]:
    """What a soak in this phase makes of the judge's conclusion, with what is against it: where a breach of this
    severity would only be told, the same as a doubt at the end is no more than that.
    """
    if finding is None:
        return verdict, ""
    told = rules.response_to(state.phase, finding.severity) is Response.NOTE
    return (Verdict.PASS if told else verdict), f"{finding.severity}, {finding}" if told else str(finding)
