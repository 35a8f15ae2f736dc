"""The twins of the channels to people and of the ticket system: what people see, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from handover.models.message import Letter
from handover.outside import CHANNELS, Outside
from handover.plan.model import Plan
from handover.ports.channel import NewTicket, ServiceRefused

TICKETS = "tickets"


@dataclass
class TwinChannels:
    """``away``: kinds of letters that are not taken, and `TICKETS`. ``lost``: raised once, after something got through,
    to whoever waits for the answer. ``posted``: every letter that was taken; ``opened``: label to key and ticket.
    """

    away: set[str] = field(default_factory=set)
    lost: BaseException | None = None
    posted: list[Letter] = field(default_factory=list)
    opened: dict[str, tuple[str, NewTicket]] = field(default_factory=dict)

    def outside(self, other: Outside) -> Outside:
        """The other one, with these in it; for `handover.outside.standing_in`."""
        channels = {kind: partial(TwinChannel, self, kind) for kind in CHANNELS}
        return replace(other, channels=channels, tickets=partial(TwinTickets, self))

    def answer(self, kind: str) -> None:
        if kind in self.away:
            raise ServiceRefused("status 503", 503)

    def hear(self) -> None:
        lost, self.lost = self.lost, None
        if lost:
            raise lost


@dataclass
class TwinChannel:
    """A status page looks whether it is told to or not, Slack when it is told to, and a mail server cannot."""

    world: TwinChannels
    kind: str
    plan: Plan

    def deliver(self, letter: Letter, *, look: bool) -> None:
        self.world.answer(self.kind)
        looks = {"slack": look, "status page": True, "e-mail": False}[self.kind]
        if not looks or letter.key not in {one.key for one in self.world.posted}:
            self.world.posted.append(letter)
        self.world.hear()


@dataclass
class TwinTickets:
    world: TwinChannels
    plan: Plan

    def open_once(self, wanted: NewTicket) -> tuple[str, bool]:
        self.world.answer(TICKETS)
        opened = self.world.opened
        if wanted.label in opened:
            return opened[wanted.label][0], False
        opened[wanted.label] = f"{self.plan.messages.ticket_project}-{len(opened) + 1}", wanted
        self.world.hear()
        return opened[wanted.label][0], True
