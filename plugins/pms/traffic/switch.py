"""What a Service says about who serves, and the patch that moves traffic. Pure: JSON in, patch out.

The Service itself records how far a switch is, in annotations beside the selector, and every patch is a compare and
swap on its resourceVersion. So a switch that was killed half-way is resumed from the Service alone, whoever comes
second loses and looks again, and a zombie can never undo a rollback: going forward is refused for a generation that
went back, or that is over.

Every function takes the Service as it was read and gives the patch, or None when that is done already; it raises
`FencedOut` when this deployment may not move traffic any more, and `Refused` when traffic is not where it should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pms.kube.lock import FencedOut

if TYPE_CHECKING:
    from pms.kube.client import Json
    from pms.models.deployment import Ticket
    from pms.plan.model import Cluster

PREFIX = "pms.deploy/"
MAX_REASON = 500
Patch = dict[str, Any]


class Traffic(StrEnum):
    """How far the deployment is that the Service last heard of."""

    OLD = "old"
    BOTH = "both"
    NEW = "new"
    BACK = "back"
    SETTLED = "settled"


class Refused(Exception):
    """Traffic is not where this step expects it; nothing was changed."""


@dataclass(frozen=True)
class Seen:
    """What a Service says. ``colour``: None while it selects both."""

    name: str
    colour: str | None
    generation: int
    traffic: Traffic | None
    deployment: str
    old_colour: str
    new_colour: str
    reason: str

    def __str__(self) -> str:
        where = f"Service {self.name} selects {self.colour or 'both colours'}"
        if self.traffic is None:
            return where
        return f"{where}; generation {self.generation} ({self.deployment}) says {self.traffic}: {self.reason}"


def read(service: Json, cluster: Cluster) -> Seen:
    notes = service["metadata"].get("annotations") or {}
    traffic, generation = notes.get(f"{PREFIX}traffic"), notes.get(f"{PREFIX}generation", "")
    return Seen(
        name=service["metadata"]["name"],
        colour=(service["spec"].get("selector") or {}).get(cluster.colour_key),
        generation=int(generation) if generation.isdecimal() else 0,
        traffic=Traffic(traffic) if traffic in set(Traffic) else None,
        deployment=notes.get(f"{PREFIX}deployment", ""),
        old_colour=notes.get(f"{PREFIX}old-colour", ""),
        new_colour=notes.get(f"{PREFIX}new-colour", ""),
        reason=notes.get(f"{PREFIX}reason", ""),
    )


def overlap(service: Json, cluster: Cluster, ticket: Ticket) -> Patch | None:
    """Old to both: the new colour joins, the old one goes on serving."""
    seen = _forward(service, cluster, ticket)
    begun = seen.generation == ticket.generation and seen.traffic not in (None, Traffic.OLD)
    if begun:
        return None
    if seen.colour != ticket.old_colour:
        raise Refused(f"{seen}; it should select {ticket.old_colour} before the switch; nothing was changed")
    return _patch(service, cluster, ticket, None, Traffic.BOTH, "switching")


def narrow(service: Json, cluster: Cluster, ticket: Ticket) -> Patch | None:
    """Both to new: the old colour gets no new connections."""
    seen = _forward(service, cluster, ticket)
    if seen.generation < ticket.generation or seen.traffic in (None, Traffic.OLD):
        raise Refused(f"{seen}; it should select both colours by now; nothing was changed")
    if seen.traffic is not Traffic.BOTH:
        return None
    return _patch(service, cluster, ticket, ticket.new_colour, Traffic.NEW, "switched")


def restore(service: Json, cluster: Cluster, ticket: Ticket, reason: str) -> Patch | None:
    """Both to old, when the switch failed before it was narrowed. It may be tried again later."""
    seen = read(service, cluster)
    if seen.generation != ticket.generation or seen.traffic in (None, Traffic.OLD, Traffic.BACK):
        return None
    if seen.traffic is not Traffic.BOTH:
        raise Refused(f"{seen}; it was narrowed already; nothing was changed")
    return _patch(service, cluster, ticket, ticket.old_colour, Traffic.OLD, reason)


def settle(service: Json, cluster: Cluster, ticket: Ticket) -> Patch | None:
    """The deployment ended well: the watch that could move traffic back is over."""
    seen = _forward(service, cluster, ticket)
    if seen.generation < ticket.generation or seen.traffic not in (Traffic.NEW, Traffic.SETTLED):
        raise Refused(f"{seen}; it should select {ticket.new_colour}; nothing was changed")
    if seen.traffic is Traffic.SETTLED:
        return None
    return _patch(service, cluster, ticket, ticket.new_colour, Traffic.SETTLED, "deployed")


def back(service: Json, cluster: Cluster, ticket: Ticket, reason: str, *, settled_too: bool = True) -> Patch | None:
    """To the old colour in one patch, wherever traffic is: an overlap would keep a bad version serving for a second.

    Before the switch it changes no selector, but leaves a note that keeps this generation from ever switching.

    :param settled_too: also after the deployment ended well (a rollback may, a watch that should be over may not)
    """
    seen = read(service, cluster)
    if seen.traffic is Traffic.BACK and seen.deployment == ticket.deployment and seen.colour == ticket.old_colour:
        return None
    if seen.generation > ticket.generation:
        raise FencedOut(f"generation {ticket.generation} is over: {seen}; nothing was changed")
    if seen.traffic is Traffic.SETTLED and seen.generation == ticket.generation and not settled_too:
        raise FencedOut(f"{seen}; this deployment has ended; nothing was changed")
    return _patch(service, cluster, ticket, ticket.old_colour, Traffic.BACK, reason)


def preview(service: Json, cluster: Cluster, ticket: Ticket, colour: str) -> Patch | None:
    """Points the preview Service at a colour."""
    seen = read(service, cluster)
    if seen.generation > ticket.generation:
        raise FencedOut(f"generation {ticket.generation} is over: {seen}; nothing was changed")
    if seen.generation == ticket.generation and seen.colour == colour:
        return None
    return _patch(service, cluster, ticket, colour, None, "preview")


def _forward(service: Json, cluster: Cluster, ticket: Ticket) -> Seen:
    """What every step forward has to respect: newer generations, a rollback, and a person's ``kubectl patch``."""
    seen = read(service, cluster)
    if seen.generation > ticket.generation:
        raise FencedOut(f"generation {ticket.generation} is over: {seen}; nothing was changed")
    if seen.generation < ticket.generation or seen.traffic is None:
        return seen
    if seen.traffic is Traffic.BACK:
        raise FencedOut(f"{seen}; a deployment that went back never goes forward again; nothing was changed")
    expected = {Traffic.OLD: ticket.old_colour, Traffic.BOTH: None}.get(seen.traffic, ticket.new_colour)
    if seen.colour != expected:
        raise FencedOut(f"{seen}; somebody else has changed the selector since; nothing was changed")
    return seen


def _patch(
    service: Json, cluster: Cluster, ticket: Ticket, colour: str | None, traffic: Traffic | None, reason: str
) -> Patch:
    """A merge patch; ``app`` stays in the selector, so that dropping the colour never selects everything."""
    notes = {
        "generation": str(ticket.generation), "deployment": ticket.deployment, "old-colour": ticket.old_colour,
        "new-colour": ticket.new_colour, "reason": reason[:MAX_REASON],
    } | ({"traffic": traffic.value} if traffic else {})  # fmt: skip
    return {
        "metadata": {
            "resourceVersion": service["metadata"]["resourceVersion"],
            "annotations": {PREFIX + key: value for key, value in notes.items()},
        },
        "spec": {"selector": cluster.selector_of(None) | {cluster.colour_key: colour}},
    }
