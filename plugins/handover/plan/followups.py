"""Section `followups` of the plan: what happens after a deployment has ended ("Post-Deployment Actions")."""

from __future__ import annotations

from pydantic import model_validator

from handover.plan.parts import Items, Seconds, Section, UrlPath


class Followups(Section):
    """When the follow-ups are due, counted from the end of the deployment, and how long people have to answer."""

    debrief_seconds: Seconds
    """T+4 hours: debriefing and deployment log."""
    review_seconds: Seconds
    """Within 24 hours: review, analysis, thanks."""
    week_seconds: Seconds
    """Within 1 week: post-mortem, feedback, success metrics."""
    response_seconds: Seconds
    """Nobody answers for so long: recorded as not answered."""
    meeting_emails: Items
    """Who is invited to the review and to a post-mortem."""
    meeting_seconds: Seconds
    ticket_search_path: UrlPath
    """Where the ticket system is asked whether a ticket exists already (JQL, by POST)."""

    @model_validator(mode="after")
    def _in_order(self) -> Followups:
        if not self.debrief_seconds < self.review_seconds < self.week_seconds:
            raise ValueError("debrief_seconds must be less than review_seconds, and that less than week_seconds")
        return self
