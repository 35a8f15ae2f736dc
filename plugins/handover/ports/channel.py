"""The channels to people, and the system that keeps their tickets.

Every implementation passes ``tests/contracts/test_channels.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from handover.models.message import Letter


class ServiceRefused(Exception):
    """Somebody answered, and would not. The text has their own words and no secret of ours, so it may be told;
    ``status`` is the HTTP status, 0 where there is none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Channel(Protocol):
    """The letters of one kind, of one plan."""

    def deliver(self, letter: Letter, *, look: bool) -> None:
        """One try, within the plan's timeout; raises `ServiceRefused`, or what else went wrong. ``look``: an earlier
        try may have got through, so the channel is asked first, where it can be.
        """


@dataclass(frozen=True)
class NewTicket:
    """``label``: of this ticket and no other, one word. ``kind``: as the system names it. ``due``: YYYY-MM-DD."""

    label: str
    kind: str
    summary: str
    description: str
    due: str


class Tickets(Protocol):
    """The ticket system, as far as one plan uses it."""

    def open_once(self, wanted: NewTicket) -> tuple[str, bool]:
        """The key of the ticket with this label, and whether it was opened now. Raises `ServiceRefused`, or what else
        went wrong; asking again is safe.
        """
