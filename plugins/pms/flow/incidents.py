"""Incidents after a deployment (plan 5.3): kept in the deployment's state, told to people, put to the lead."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pms.flow import redelivery
from pms.kube import state as states
from pms.kube.client import KubeError
from pms.kube.lock import FencedOut
from pms.models import incident
from pms.models.incident import Incident, Outcome, Severity
from pms.people import messages
from pms.people.channels import send

if TYPE_CHECKING:
    from pms.kube.client import Kube
    from pms.models.deployment import DeploymentState, Ticket
    from pms.plan.model import Plan

log = logging.getLogger(__name__)


async def note(kube: Kube, plan: Plan, ticket: Ticket, rule: str, reason: str) -> Incident:
    """A breach becomes an incident of the severity that the plan gives it, and people hear of it."""
    severity = plan.incidents.severity_of(rule)
    outcome = Outcome.ASKED if severity is Severity.CRITICAL else Outcome.NOTED
    found = incident.began(rule, reason, severity, time.time(), outcome)
    state = await _change(kube, plan, ticket, lambda old: (*old, found))
    await asyncio.to_thread(_tell, plan, state, found)
    return found


def _tell(plan: Plan, state: DeploymentState, found: Incident) -> None:
    missing = send(plan, messages.incident_began(plan, state, found), state.deployment)
    redelivery.hand_over(plan, missing, state.deployment)


async def rolled_back(kube: Kube, plan: Plan, ticket: Ticket, rule: str, reason: str, what: str) -> None:
    """The incident that the watch answered by itself. Traffic has moved by now: the record of it must stop nothing."""
    severity = plan.incidents.severity_of(rule)
    found = incident.began(rule, reason, severity, time.time(), Outcome.ROLLED_BACK)
    try:
        await _change(kube, plan, ticket, lambda old: (*old, found.then(time.time(), what)))
    except (KubeError, FencedOut, states.NoDeployment) as error:
        log.warning("the incident was not recorded: %s", error)


async def add(kube: Kube, plan: Plan, ticket: Ticket, what: str, outcome: Outcome | None = None) -> DeploymentState:
    """One more line in the timeline of the open incident."""
    return await _change(kube, plan, ticket, lambda old: incident.changed(old, time.time(), what, outcome))


async def _change(
    kube: Kube, plan: Plan, ticket: Ticket, change: Callable[[tuple[Incident, ...]], tuple[Incident, ...]]
) -> DeploymentState:
    def changed(old: DeploymentState) -> DeploymentState:
        return old.model_copy(update={"incidents": change(old.incidents)})

    return await states.update(kube, plan.lock_name, ticket, changed)
