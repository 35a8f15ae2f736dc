"""Incidents after a deployment (plan 5.3): kept in the deployment's state, told to people, put to the lead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.models import incident
from handover.models.incident import Incident, Resolution, Severity
from handover.people import messages
from handover.people.channels import send
from handover.ports.kube import KubeError
from handover.workflows.redelivery import steps as redelivery

if TYPE_CHECKING:
    from handover.analysis.judge import Finding
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Kube

log = logging.getLogger(__name__)
TELL_SECONDS = 2.0
"""So long the end of a watch waits for a channel, since the rollback has yet to begin; later is fine too."""


async def note(kube: Kube, plan: Plan, token: FencingToken, finding: Finding) -> None:
    """A breach becomes an incident of the severity that the plan gives it, and people hear of it: once, however many
    watch, and not while it goes on or somebody is asked about another one.
    """
    outcome = Resolution.ASKED if finding.severity is Severity.CRITICAL else Resolution.NOTED
    found = incident.began(finding.rule, finding.reason, finding.severity, clock.epoch(), outcome)
    state = await _change(kube, plan, token, partial(_with, found=found, pause=plan.watch.sustained_seconds))
    if found in state.incidents:
        await asyncio.to_thread(_tell, plan, state, found)


def _with(known: tuple[Incident, ...], found: Incident, pause: float) -> tuple[Incident, ...]:
    same = any(one.rule == found.rule and found.began - one.began < pause for one in known)
    return known if same or incident.pending(known) else (*known, found)


def _tell(plan: Plan, state: DeploymentState, found: Incident) -> None:
    missing = send(plan, messages.incident_began(plan, state, found), state.deployment)
    redelivery.hand_over(plan, missing, state.deployment)


async def rolled_back(
    kube: Kube, plan: Plan, token: FencingToken, finding: Finding, what: str, *, met: bool
) -> None:  # fmt: skip
    """The incident that a watch answered by itself, once. If clients had ``met`` the version, people hear of it here:
    the rollback, which tells them the rest, has yet to begin. Traffic has moved by now: nothing here may stop that.
    """
    found = incident.began(finding.rule, finding.reason, finding.severity, clock.epoch(), Resolution.ROLLED_BACK)
    told = found.then(clock.epoch(), what)
    try:
        state = await _change(kube, plan, token, lambda old: old if incident.given_up(old) else (*old, told))
    except (KubeError, FencedOut, states.NoDeployment) as error:
        log.warning("the incident was not recorded: %s", error)
        return
    if met and told in state.incidents:
        telling = asyncio.ensure_future(asyncio.to_thread(_tell, plan, state, told))
        await asyncio.wait([telling], timeout=TELL_SECONDS)


async def add(
    kube: Kube, plan: Plan, token: FencingToken, what: str, outcome: Resolution | None = None
) -> DeploymentState:
    """One more line in the timeline of the open incident."""
    return await _change(kube, plan, token, lambda old: incident.changed(old, clock.epoch(), what, outcome))


async def _change(
    kube: Kube, plan: Plan, token: FencingToken, change: Callable[[tuple[Incident, ...]], tuple[Incident, ...]]
) -> DeploymentState:
    def changed(old: DeploymentState) -> DeploymentState:
        return old.model_copy(update={"incidents": change(old.incidents)})

    return await states.update(kube, plan.lock_name, token, changed)
