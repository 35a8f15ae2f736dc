"""What people are told before a planned release (plan "Communication Plan"). Pure functions."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from handover.people.messages import Message, in_words, lasts, more, reassures

if TYPE_CHECKING:
    from handover.models.message import Announced
    from handover.plan.model import Plan


def deployment_scheduled(plan: Plan, release: Announced) -> Message:
    """One week before: e-mail to stakeholders."""
    return Message(
        event="deployment_scheduled", **_about(release), to_stakeholders=True,
        subject=f"Deployment scheduled: {plan.title} {release.version}",
        text=f"{plan.title} {release.version} goes to production on {when(plan, release)}.\n"
        f"It is deployed without downtime. You will hear when it is done, or if it is rolled back.{more(plan)}",
    )  # fmt: skip


def maintenance_planned(plan: Plan, release: Announced) -> Message:
    """One week before: e-mail to users."""
    return Message(
        event="maintenance_planned", **_about(release), to_users=True,
        subject=f"Maintenance window planned: {plan.title}",
        text=f"We will update {plan.title} on {when(plan, release)}.{reassures(plan, chr(10))}{more(plan)}",
    )  # fmt: skip


def status_scheduled(plan: Plan, release: Announced) -> Message:
    """One week before: the status page."""
    return Message(
        event="status_scheduled", **_about(release), status_page="scheduled",
        text=f"We will update {plan.title} to {release.version} on {when(plan, release)}.{reassures(plan, ' ')}",
    )  # fmt: skip


def reminder(plan: Plan, release: Announced) -> Message:
    """The day before: Slack reminder to the team."""
    team = ", ".join(user for role in plan.team.values() for user in role.users)
    return Message(
        event="reminder", title="Deployment tomorrow", **_about(release), fields=_fields(plan, release),
        slack=f"Reminder: {plan.title} {release.version} is deployed on {when(plan, release)}.\nTeam: {team}",
    )  # fmt: skip


def starting(plan: Plan, release: Announced) -> Message:
    """T-15 minutes."""
    return Message(
        event="starting", title="Deployment starting", **_about(release), fields=_fields(plan, release),
        slack=f"@here Deployment starting: {plan.title} {release.version} on {when(plan, release)}{lasts(plan)}",
    )  # fmt: skip


def cancelled(plan: Plan, release: Announced, why: str) -> Message:
    """The release that was announced is not due any more."""
    said = f"The deployment of {plan.title} {release.version} on {when(plan, release)} does not take place"
    return Message(
        event="cancelled", title="Deployment cancelled", **_about(release), fields=_fields(plan, release),
        slack=f"{said}: {why}", text=f"{said}.", status_page="completed",
        subject=f"Deployment cancelled: {plan.title} {release.version}", to_stakeholders=True, to_users=True,
    )  # fmt: skip


def asked_to_confirm(plan: Plan, release: Announced, question: str, link: str, seconds: float) -> Message:
    """The role is asked whether everything stands."""
    who = plan.team[plan.announcements.role if plan.announcements else "lead"]
    return Message(
        event="asked", title="Your confirmation is needed", fields=_fields(plan, release),
        slack=f"{who.title} ({', '.join(who.users)}): {question}\n"
        f"No answer within {in_words(seconds)} is told to everybody: {link}",
    )  # fmt: skip


def not_confirmed(plan: Plan, release: Announced, question: str, said: str) -> Message:
    """A "No", or no answer. It stops nothing; people decide what to do."""
    return Message(
        event="not_confirmed", title="Not confirmed", **_about(release), fields=_fields(plan, release),
        slack=f"@here {question} NOT confirmed for {plan.title} {release.version} on {when(plan, release)}: {said}.\n"
        f"Nothing was stopped; to stop it, empty the Variable {plan.name}_release_due.",
    )  # fmt: skip


def when(plan: Plan, release: Announced) -> str:
    """The window, in the plan's time zone."""
    zone = ZoneInfo(plan.window.timezone)
    opens, closes = (datetime.datetime.fromtimestamp(at, zone) for at in (release.opens, release.closes))
    return f"{opens:%A %Y-%m-%d %H:%M}-{closes:%H:%M} {plan.window.timezone}"


def _about(release: Announced) -> dict[str, Any]:
    return {"version": release.version, "opens": release.opens, "closes": release.closes}


def _fields(plan: Plan, release: Announced) -> tuple[tuple[str, str], ...]:
    return (("Version", release.version), ("Window", when(plan, release)))
