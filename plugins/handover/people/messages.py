"""What people are told: the wording of the plan, apart from the channels that carry it. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from handover import clock
from handover.models.deployment import DeploymentState, Release
from handover.models.evidence import Verdict
from handover.models.incident import Resolution
from handover.models.message import PageStatus
from handover.models.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handover.models.followup import Ended
    from handover.models.incident import Incident
    from handover.people.asking import Asked
    from handover.plan.change import Override
    from handover.plan.model import Plan

MAX_TABLE = 2700
"""Characters: Slack's block takes 3,000."""


@dataclass(frozen=True)
class Message:
    """One announcement; an empty field means that this channel is not used for it.

    ``event`` names what happened: the same event of the same task is told once. ``text``: of the e-mail, ``public``: of
    the status page, where they are not the text for Slack. ``title`` and ``fields``: what Slack shows above and below
    the text. Times are seconds since the epoch.
    """

    event: str
    slack: str = ""
    title: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    incident_channel: bool = False
    status_page: PageStatus | Literal[""] = ""
    public: str = ""
    text: str = ""
    subject: str = ""
    to_stakeholders: bool = False
    to_users: bool = False
    version: str = ""
    deployment: str = ""
    opens: float = 0
    closes: float = 0


def _of(state: DeploymentState) -> dict[str, Any]:
    """What every message about a deployment has."""
    fields = (
        ("Version", state.version),
        ("Previous version", state.previous_version),
        ("Deployment", state.deployment),
    )
    return {"fields": fields, "version": state.version, "deployment": state.deployment}


def lasts(plan: Plan) -> str:
    """How long it is expected to take, on a line of its own; nothing where the plan does not say."""
    return f"\nExpected duration: {plan.banner.expected_minutes} minutes" if plan.banner else ""


def reassures(plan: Plan, before: str) -> str:
    """What clients are told while it goes on."""
    return f"{before}{plan.banner.message}" if plan.banner else ""


def more(plan: Plan) -> str:
    """Where the status page is, on a line of its own, if there is one."""
    return f"\nStatus: {plan.messages.status_page_url}" if plan.messages.status_page_url else ""


def started(plan: Plan, state: DeploymentState) -> Message:
    """Plan 2.1."""
    return Message(
        event="started",
        title="Deployment in progress",
        **_of(state),
        slack=f"@here Starting production deployment {state.version}{lasts(plan)}{more(plan)}",
        status_page="in_progress",
        public=f"We are updating {plan.title} to {state.version}.{reassures(plan, ' ')}",
    )


def switched(plan: Plan, state: DeploymentState) -> Message:
    """Plan 2.2 step 6: everybody meets the new version by now."""
    since = f" since {clock.told(state.switched_at)}" if state.switched_at else ""
    return Message(
        event="switched", title="Traffic is switched", **_of(state),
        slack=f"{plan.title}: clients meet {state.version} on {state.preview}{since}; {state.previous_version} stands "
        f"by on {state.stable}. A breach is rolled back by itself.",
    )  # fmt: skip


def succeeded(plan: Plan, state: DeploymentState) -> Message:
    """Plan "Communication Plan", day of deployment. Said once traffic is settled; the watch ends a little later."""
    return Message(
        event="succeeded",
        title="Deployment completed",
        **_of(state),
        slack=f"{plan.title} {state.version} is deployed: every check passed, and no watch takes it back any more.",
        status_page="completed",
        public=f"{plan.title} {state.version} is in place.",
        subject=f"{plan.title} {state.version}: deployment completed successfully",
        to_stakeholders=True,
    )


def taken_back(plan: Plan, state: DeploymentState, now: float | None = None) -> Message:
    """Rollback step 1, said once traffic is where it belongs. What has moved nothing is stopped, and nobody but the
    team hears of it. ``now``: seconds since the epoch.
    """
    reason = f"Reason: {state.rollback_reason or 'not given'}"
    if not state.moved:
        return Message(
            event="stopped", title="Stopped, nothing moved", **_of(state),
            slack=f"{plan.title} {state.version} is STOPPED before the switch; {state.whereabouts}.\n{reason}",
        )  # fmt: skip
    verification = in_words(plan.watch.after_rollback_seconds)
    return Message(
        event="rollback_initiated",
        title="Rollback initiated",
        **_of(state),
        slack=f"@here ROLLBACK INITIATED - {state.version} deployment\n"
        f"{_capital(state.whereabouts)}. Verification takes {verification}.\n{reason}{_late(plan, state, now)}",
        incident_channel=True,
        status_page="investigating" if state.met else "",
        public=f"{plan.title} runs in the version before this one again{_since(state)}. We are verifying it.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _since(state: DeploymentState) -> str:
    return f", since {clock.told(state.back_at)}" if state.back_at else ""


def _late(plan: Plan, state: DeploymentState, now: float | None) -> str:
    """Says so when traffic went back after the plan's decision point was over."""
    back_at = state.back_at or (clock.epoch() if now is None else now)
    age = back_at - (state.switched_at or float("inf"))
    if age <= plan.rollback.window_seconds:
        return ""
    return f"\n{age / 60:.0f} minutes after the switch (the plan decides within {plan.rollback.window_seconds / 60:g})"


def rolled_back(plan: Plan, state: DeploymentState) -> Message:
    """Rollback step 6; users hear of it only when they could have seen the new version. Of one that was stopped before
    that there is no more to say, but that a maintenance which was announced as under way is over.
    """
    if not state.met:
        database = f"{plan.title}: the database is back for {state.previous_version}, which served all the time; "
        said = f"{database}{state.version} was rolled back ({state.rollback_reason or 'no reason given'})."
        return Message(
            event="rolled_back_unmet", title="Rolled back", **_of(state), slack=said if state.moved else "",
            incident_channel=True, status_page="completed" if state.announced else "",
            public=f"The update of {plan.title} does not take place now. Nothing has changed.",
        )  # fmt: skip
    return Message(
        event="rolled_back",
        title="Rolled back",
        **_of(state),
        slack=f"{plan.title}: {state.previous_version} serves again{_since(state)}, and is verified by now; "
        f"{state.version} was rolled back ({state.rollback_reason or 'no reason given'}).",
        incident_channel=True,
        status_page="resolved",
        public=f"{plan.title} runs in the version before this one again{_since(state)}. This is verified.",
        subject=f"{plan.title} {state.version}: rolled back to {state.previous_version}",
        to_stakeholders=True,
        to_users=True,
    )


def incident_began(plan: Plan, state: DeploymentState, found: Incident) -> Message:
    """Plan 5.3, step 2; also of one that the watch has answered by itself."""
    who = plan.team[plan.incidents.role]
    here = "@here " if found.open else ""
    then = f"\n{who.title} ({', '.join(who.users)}) is asked: fix or rollback?" if found.open else ""
    if found.outcome is Resolution.ROLLED_BACK:
        then = f"\n{_capital(found.timeline[-1].what)}; the rollback does the rest."
    return Message(
        event=f"incident {found.rule} {found.began:.0f}",
        title=f"Incident: {found.severity}",
        **_of(state),
        slack=f"{here}{found.severity.upper()} incident after {state.version}: {found.reason}{then}",
        incident_channel=True,
        status_page="investigating" if found.open else "",
        public=f"We are looking into a problem with {plan.title}.",
    )


def looked_after(plan: Plan, state: DeploymentState, what: str, problem: str, *, roll_back: bool) -> Message:
    """The watchdog has found something."""
    then = "It is rolled back." if roll_back else "Somebody has to look."
    return Message(
        event=f"watchdog {what}", title="Watchdog", **_of(state), slack=f"@here {plan.title}: {problem}. {then}",
        incident_channel=True,
    )  # fmt: skip


def decided(plan: Plan, phase: str, proceed: bool, reasons: list[str], *, moved: bool = True) -> Message:
    """What a branch decided after a phase, and why. ``moved``: whether clients could tell by now."""
    title = "Proceed" if proceed else ("Roll back" if moved else "Stop")
    verdict = "proceed" if proceed else ("ROLL BACK" if moved else "STOP, nothing moved")
    return Message(
        event=f"{phase} {verdict}", title=title,
        slack=f"{plan.title}: {phase}: {verdict}\n" + "\n".join(f"• {r}" for r in reasons),
    )  # fmt: skip


def asked(plan: Plan, question: Asked, link: str, state: DeploymentState | None = None) -> Message:
    """A person has to answer."""
    who = plan.may_answer(question.role)[0]
    return Message(
        event="asked", title="Your answer is needed", **(_of(state) if state else {}),
        slack=f"{who.title} ({', '.join(who.users)}): {question.subject}\n"
        f"{_or_else(question, question.seconds)}: {link}",
    )  # fmt: skip


def overrides_asked(plan: Plan, question: Asked, link: str, version: str, what: Mapping[Override, str]) -> Message:
    """A second person has to agree. ``what``: why each of what is overridden stands against it."""
    told = "\n".join(f"{kind}: {why}" for kind, why in what.items())[:MAX_TABLE]
    message = asked(plan, question, link)
    return replace(message, version=version, fields=(("Version", version),), slack=f"{message.slack}\n{told}")


def reminded(plan: Plan, asked: Asked, link: str, left: float, above_too: bool) -> Message:
    """A question still waits. ``left``: seconds until it runs out; ``above_too``: the role above has been told."""
    roles = plan.may_answer(asked.role) if above_too else plan.may_answer(asked.role)[:1]
    who = " or ".join(f"{role.title} ({', '.join(role.users)})" for role in roles)
    return Message(
        event=f"reminded {left:g}", title="Your answer is still needed",
        slack=f"{who}: {asked.subject} Nobody has answered yet.\n{_or_else(asked, left)}: {link}",
    )  # fmt: skip


def escalated(plan: Plan, asked: Asked, link: str, waited: float, left: float) -> Message:
    """A role has not answered in its share of the time: it is the turn of the role above. Times in seconds."""
    role, above = plan.may_answer(asked.role)
    return Message(
        event="escalated", title="It is your turn",
        slack=f"@here {above.title} ({', '.join(above.users)}), it is your turn: {asked.subject} {role.title} "
        f"({', '.join(role.users)}) has not answered for {in_words(waited)}, and may still do so.\n"
        f"{_or_else(asked, left)}: {link}",
    )  # fmt: skip


def _or_else(asked: Asked, left: float) -> str:
    return f"Answer within {in_words(left)}, else the answer is {asked.silence}"


def in_words(seconds: float) -> str:
    """A time to wait as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.3g} h" if seconds > 5400 else f"{round(seconds / 60)} minutes"


def readiness_asked(plan: Plan, role: str, release: str, lines: int, link: str, seconds: float) -> Message:
    """A role is asked what only it knows about a release."""
    who = plan.team[role]
    return Message(
        event="readiness_asked", title="Readiness: your answers are needed",
        slack=f"{who.title} ({', '.join(who.users)}): readiness of {release}: questions for you: {lines}. "
        f"What is not answered within {in_words(seconds)} counts as not known: {link}",
    )  # fmt: skip


def readiness_result(plan: Plan, result: Readiness) -> Message:
    """The verdict on a release, with a table of what is against it and who must act."""
    if result.verdict is Verdict.PASS:
        text = f"{plan.title} {result.version} is ready: all {result.lines} lines of the checklist pass."
        return Message(event="ready", title="Ready", slack=text)
    rows = [
        f"{one.verdict:<8}{plan.team[one.owner].title:<20}{one.line[:60]}: {one.reason[:160]}" for one in result.against
    ]
    head = f"{plan.title} {result.version} is NOT ready: {len(rows)} of {result.lines} lines are against it"
    table = "\n".join(rows)[:MAX_TABLE]
    return Message(event=f"not_ready {result.verdict}", title="Not ready", slack=f"@here {head}\n```\n{table}\n```")


def readiness_overridden(plan: Plan, release: Release, missing: str) -> Message:
    """Somebody deploys a release that is not ready."""
    return Message(
        event="readiness_overridden", title="Deployed without readiness",
        slack=f"@here {plan.title} {release.version} is deployed WITHOUT readiness.\n"
        f"Reason: {release.readiness_override_reason}\nMissing: {missing[:MAX_TABLE]}",
    )  # fmt: skip


def thanks(plan: Plan, ended: Ended, link: str) -> Message:
    """Plan "Thank the team, celebrate success!", with the figures."""
    how = "is back on the version before" if ended.rolled_back else "is in production"
    return Message(
        event="thanks", title="Thank you, team",
        slack=f"Thank you, team: {plan.title} {ended.version} {how} ({ended.outcome}, incidents: {ended.incidents}). "
        f"Figures: {link}",
    )  # fmt: skip


def learnings(plan: Plan, ended: Ended, link: str) -> Message:
    """Plan "Share learnings with wider organization"."""
    return Message(
        event="learnings", title="What we learned",
        slack=f"{plan.title} {ended.version} ({ended.outcome}), from {ended.previous_version}: what we learned: {link}",
        subject=f"{plan.title} {ended.version}: what we learned", to_stakeholders=True,
    )  # fmt: skip
