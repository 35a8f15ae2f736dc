"""What people are told: the wording of the plan, apart from the channels that carry it. Pure functions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pms.models.deployment import DeploymentState, Release
from pms.models.evidence import Verdict
from pms.models.readiness import Readiness

if TYPE_CHECKING:
    from pms.models.followup import Ended
    from pms.models.incident import Incident
    from pms.plan.model import Plan

MAX_TABLE = 2700
"""Characters: Slack's block takes 3,000."""


@dataclass(frozen=True)
class Message:
    """One announcement; an empty field means that this channel is not used for it."""

    slack: str
    incident_channel: bool = False
    status_page: str = ""
    """State that the status page shows: in_progress, completed, investigating or resolved."""
    subject: str = ""
    to_stakeholders: bool = False
    to_users: bool = False


def started(plan: Plan, state: DeploymentState) -> Message:
    """Plan 2.1."""
    return Message(
        slack=f"@here Starting production deployment {state.version}\n"
        f"Expected duration: {plan.banner.expected_minutes} minutes\nStatus: {plan.messages.status_page_url}",
        status_page="in_progress",
    )


def succeeded(plan: Plan, state: DeploymentState) -> Message:
    """Plan "Communication Plan", day of deployment."""
    return Message(
        slack=f"{plan.title} {state.version} is deployed: every check passed and the watch is over.",
        status_page="completed",
        subject=f"{plan.title} {state.version}: deployment completed successfully",
        to_stakeholders=True,
    )


def rollback_initiated(plan: Plan, state: DeploymentState, now: float | None = None) -> Message:
    """Rollback step 1. ``now``: seconds since the epoch."""
    return Message(
        slack=f"@here ROLLBACK INITIATED - {state.version} deployment\n"
        f"Reason: {state.rollback_reason or 'not given'}{_late(plan, state, now)}\n"
        f"ETA: {plan.rollback.eta} to previous version",
        incident_channel=True,
        status_page="investigating",
    )


def _late(plan: Plan, state: DeploymentState, now: float | None) -> str:
    """Says so when the plan's decision point is over."""
    age = (time.time() if now is None else now) - (state.switched_at or float("inf"))
    if age <= plan.rollback.window_seconds:
        return ""
    return f"\n{age / 60:.0f} minutes after the switch (the plan decides within {plan.rollback.window_seconds / 60:g})"


def rolled_back(plan: Plan, state: DeploymentState) -> Message:
    """Rollback step 6; users hear of it only when they could have seen the new version."""
    return Message(
        slack=f"{plan.title}: {state.previous_version} serves again; {state.version} was rolled back "
        f"({state.rollback_reason or 'no reason given'}).",
        incident_channel=True,
        status_page="resolved",
        subject=f"{plan.title} {state.version}: rolled back to {state.previous_version}",
        to_stakeholders=True,
        to_users=state.switched_at is not None,
    )


def incident_began(plan: Plan, state: DeploymentState, found: Incident) -> Message:
    """Plan 5.3, step 2."""
    who = plan.team[plan.incidents.role]
    here = "@here " if found.open else ""
    asks = f"\n{who.title} ({', '.join(who.users)}) is asked: fix or rollback?" if found.open else ""
    return Message(
        slack=f"{here}{found.severity.upper()} incident after {state.version}: {found.reason}{asks}",
        incident_channel=True,
        status_page="investigating" if found.open else "",
    )


def decided(plan: Plan, phase: str, proceed: bool, reasons: list[str]) -> Message:
    """What a branch decided after a phase, and why."""
    verdict = "proceed" if proceed else "ROLL BACK"
    return Message(slack=f"{plan.title}: {phase}: {verdict}\n" + "\n".join(f"• {r}" for r in reasons))


def asked(plan: Plan, role: str, question: str, link: str, minutes: int) -> Message:
    """A person has to answer."""
    who = plan.team[role]
    return Message(
        slack=f"{who.title} ({', '.join(who.users)}): {question}\nAnswer within {minutes} minutes, "
        f"else the answer is Rollback: {link}"
    )


def readiness_asked(plan: Plan, role: str, release: str, lines: int, link: str, seconds: float) -> Message:
    """A role is asked what only it knows about a release."""
    who = plan.team[role]
    return Message(
        slack=f"{who.title} ({', '.join(who.users)}): readiness of {release}: {lines} questions wait for you. "
        f"What is not answered within {seconds / 3600:.3g} h counts as not known: {link}"
    )


def readiness_result(plan: Plan, result: Readiness) -> Message:
    """The verdict on a release, with a table of what is against it and who must act."""
    if result.verdict is Verdict.PASS:
        return Message(slack=f"{plan.title} {result.version} is ready: all {result.lines} lines of the checklist pass.")
    rows = [
        f"{one.verdict:<8}{plan.team[one.owner].title:<20}{one.line[:60]}: {one.reason[:160]}" for one in result.against
    ]
    head = f"{plan.title} {result.version} is NOT ready: {len(rows)} of {result.lines} lines are against it"
    return Message(slack=f"@here {head}\n```\n" + "\n".join(rows)[:MAX_TABLE] + "\n```")


def readiness_overridden(plan: Plan, release: Release, missing: str) -> Message:
    """Somebody deploys a release that is not ready."""
    return Message(
        slack=f"@here {plan.title} {release.version} is deployed WITHOUT readiness.\n"
        f"Reason: {release.readiness_override_reason}\nMissing: {missing[:MAX_TABLE]}"
    )


def thanks(plan: Plan, ended: Ended, link: str) -> Message:
    """Plan "Thank the team, celebrate success!", with the figures."""
    how = "is back on the version before" if ended.rolled_back else "is in production"
    return Message(
        slack=f"Thank you, team: {plan.title} {ended.version} {how} ({ended.outcome}, {ended.incidents} incidents). "
        f"Figures: {link}"
    )


def learnings(plan: Plan, ended: Ended, link: str) -> Message:
    """Plan "Share learnings with wider organization"."""
    return Message(
        slack=f"{plan.title} {ended.version} ({ended.outcome}), from {ended.previous_version}: what we learned: {link}",
        subject=f"{plan.title} {ended.version}: what we learned",
        to_stakeholders=True,
    )
