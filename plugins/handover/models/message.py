"""What is said to people, ready for delivery: now, or later by somebody else. No I/O here."""

from __future__ import annotations

from typing import Any, Literal

from handover.models.evidence import Frozen

UNDELIVERED_KEY = "undelivered"
"""XCom key of the letters that a task could not deliver; they are handed to the redelivery DAG."""
ORIGIN_KEY = "origin"
"""XCom key of a redelivery: the deployment whose letter it carried."""
ANNOUNCED_KEY = "announced"

PageStatus = Literal["scheduled", "in_progress", "completed", "investigating", "resolved"]


class Announced(Frozen):
    """A release with its window; times in seconds since the epoch."""

    version: str
    opens: float
    closes: float


class PageUpdate(Frozen):
    """What the status page is to show, and of what. ``deployment``: run id, empty before there is one.

    ``opens``, ``closes``: of the announced window, seconds since the epoch; 0 where it is not known.
    """

    status: PageStatus
    version: str
    deployment: str = ""
    opens: float = 0
    closes: float = 0


class Letter(Frozen):
    """One message to one channel. ``key`` names it for ever: whoever finds it delivered does not send it again.

    ``to``: the Slack channel, or the addresses of an e-mail. ``invite``: iCalendar text that goes with an e-mail.
    ``at``: when it was written, seconds since the epoch. ``seal``: proof of who left it to be tried again.
    """

    key: str
    kind: Literal["slack", "status page", "e-mail"]
    to: tuple[str, ...] = ()
    text: str
    subject: str = ""
    blocks: tuple[dict[str, Any], ...] = ()
    page: PageUpdate | None = None
    invite: str = ""
    at: float
    seal: str = ""

    @property
    def channel(self) -> str:
        """As the record names it."""
        return f"slack {self.to[0]}" if self.kind == "slack" else self.kind

    @property
    def said(self) -> str:
        """As the record has it."""
        return f"{self.subject}\n{self.text}" if self.kind == "e-mail" else self.text
