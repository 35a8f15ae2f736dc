"""Tickets that are opened once: each bears a label made of what it is for, and is looked for before it is opened."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from handover.outside import outside
from handover.people.channels import why

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.channel import NewTicket

log = logging.getLogger(__name__)
INCIDENT, POST_MORTEM = "incident", "post-mortem"
"""Purposes of tickets."""


def label(plan: Plan, purpose: str, *about: str) -> str:
    """The label of the one ticket of this purpose about this: a deployment, or something in it. One word, whatever
    characters they hold.
    """
    return f"{plan.name}-{purpose}-{hashlib.sha256(chr(10).join(about).encode()).hexdigest()[:16]}"


def open_once(plan: Plan, wanted: NewTicket) -> tuple[str, bool]:
    """The key of the ticket with this label, and whether it was opened now.

    Raises `handover.ports.channel.ServiceRefused`, or what else went wrong; asking again is safe.
    """
    return outside().tickets(plan).open_once(wanted)


def key_or_reason(plan: Plan, wanted: NewTicket) -> str:
    """The same for who must not be held up: the key, or why there is none."""
    try:
        return open_once(plan, wanted)[0]
    except Exception as error:
        log.warning("no ticket was opened: %s", error)
        return f"none ({why(error)})"
