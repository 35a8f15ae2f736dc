"""The people of the plan: its roles, what they are asked, who is told where and when ("Communication Plan")."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from handover.plan.parts import ConnectionId, Count, Items, Seconds, Section, UrlPath, all_or_none

SlackChannel = Annotated[str, StringConstraints(pattern=r"^#[a-z0-9_-]+$")]
TicketType = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Role(Section):
    title: str
    users: Annotated[tuple[str, ...], Field(min_length=1)]
    escalates_to: str | None = None


class Question(Section):
    """Something that a person confirms (1.3 and 4.3)."""

    role: str
    response_seconds: Seconds
    items: Items


class Asking(Section):
    """What happens while a question waits, as shares of the time that it waits for."""

    reminders: tuple[Share, ...] = ()
    """When the role is told again."""
    escalates_at: Share | None = None
    """When it is the turn of the role above (``escalates_to``), which is told then and may answer as well; without,
    nobody but the role may answer."""

    @model_validator(mode="after")
    def _in_order(self) -> Asking:
        if any(later <= earlier for earlier, later in itertools.pairwise(self.reminders)):
            raise ValueError("reminders must be in order, each one once")
        return self


class Messages(Section):
    slack_connection: ConnectionId | None = None
    deployments_channel: SlackChannel | None = None
    incidents_channel: SlackChannel | None = None
    status_page_connection: ConnectionId | None = None
    status_page_path: UrlPath | None = None
    status_page_url: str | None = None
    email_connection: ConnectionId | None = None
    email_from: str | None = None
    stakeholders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    ticket_connection: ConnectionId | None = None
    ticket_path: UrlPath | None = None
    ticket_project: str | None = None
    ticket_incident_type: TicketType = "Incident"
    ticket_task_type: TicketType = "Task"
    """Types of the tickets of incidents and of what there is to do, as the project has them."""
    post_mortem_hours: Count
    timeout_seconds: Seconds

    @model_validator(mode="after")
    def _whole_channels(self) -> Messages:
        """Slack, status page, e-mail and tickets may each be left out."""
        all_or_none(self, "slack_connection", "deployments_channel", "incidents_channel")
        all_or_none(self, "status_page_connection", "status_page_path", "status_page_url")
        all_or_none(self, "email_connection", "email_from")
        all_or_none(self, "ticket_connection", "ticket_path", "ticket_project")
        if self.email_connection is None and (self.stakeholders or self.users):
            raise ValueError("stakeholders and users are told by e-mail, which email_connection and email_from are for")
        return self


class Announcements(Section):
    """When people hear of a planned release, before its window opens; and how long a lost message is tried again."""

    week_before_seconds: Seconds
    day_before_seconds: Seconds
    starting_before_seconds: Seconds
    role: str
    """Who says that the team is there and that the window stands."""
    response_seconds: Seconds
    available: Items
    confirmed: Items
    """What that role is asked to confirm: about the team, and about the window."""
    retry_for_seconds: Seconds
    retry_delay_seconds: Seconds
    """Before the second try; then twice as long each time."""

    @model_validator(mode="after")
    def _in_order(self) -> Announcements:
        if not self.week_before_seconds > self.day_before_seconds > self.starting_before_seconds:
            raise ValueError(
                "week_before_seconds, day_before_seconds, starting_before_seconds: each must be the longer"
            )
        if self.response_seconds > self.day_before_seconds:
            raise ValueError("response_seconds must not reach beyond the start of the window (day_before_seconds)")
        if self.retry_delay_seconds > self.retry_for_seconds:
            raise ValueError("retry_delay_seconds must not be above retry_for_seconds")
        return self
