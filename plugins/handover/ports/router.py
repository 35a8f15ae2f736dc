"""The router: who serves new connections, and how far the deployment is that moved traffic last.

A route records both in one place and changes by compare and swap, so that whoever comes second loses and looks again.
Every implementation passes ``tests/contracts/test_router.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Stage(StrEnum):
    """How far the deployment is that the route last heard of."""

    STABLE = "stable"
    """The cutover began and was undone; it may be tried again."""
    OVERLAP = "overlap"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    """Back on the stable colour, and this deployment never goes forward again."""
    RETIRING = "retiring"
    """Promoted, and the stable colour may be scaled down at any moment: wake it before traffic goes back to it."""
    FINALISED = "finalised"
    """The same, and the deployment ended well: no watch may abort it any more."""


@dataclass(frozen=True)
class Route:
    """What a router says. ``weights``: colour to its percent of new connections; those of 0 are left out.

    ``exposed_at``: when clients first met the preview colour, seconds since the epoch; None while they have not.
    ``entry_seconds``: how long after it was routed to the public address first answered from the preview colour, as
    this deployment's cutover saw it; None: not known. ``moved_at``: since when it sends traffic where it does, by
    whoever of us moved it last; None when nobody knows. ``sticky``: it keeps a client with its pod, so that one client
    never sees both colours; only read, never written.
    ``revision``: what compare and swap compares; means nothing else.
    """

    name: str
    weights: Mapping[str, int]
    generation: int = 0
    stage: Stage | None = None
    deployment: str = ""
    stable: str = ""
    preview: str = ""
    reason: str = ""
    exposed_at: float | None = None
    entry_seconds: float | None = None
    moved_at: float | None = field(default=None, compare=False)
    sticky: bool = False
    unfit: str = ""
    """Why this router cannot move traffic between colours, and what to do; empty when it can."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it asks of the pods of any colour."""
    revision: Any = field(default=None, compare=False)

    @property
    def serving(self) -> frozenset[str]:
        return frozenset(self.weights)

    @property
    def colour(self) -> str | None:
        """The one colour that serves; None while several do."""
        return next(iter(self.weights)) if len(self.weights) == 1 else None

    def __str__(self) -> str:
        where = f"{self.name} sends traffic to {' and '.join(sorted(self.weights)) or 'nobody'}"
        if self.stage is None:
            return where
        return f"{where}; generation {self.generation} ({self.deployment}) is {self.stage}: {self.reason}"


def only(colour: str) -> dict[str, int]:
    """All new connections to one colour."""
    return {colour: 100}


def both(one: str, other: str) -> dict[str, int]:
    """As many to one as to the other, as far as the router can weigh."""
    return {one: 50, other: 50}


class Router(Protocol):
    """One public address (or the preview's) of one service. Every call raises `handover.ports.kube.KubeError`."""

    name: str

    async def read(self) -> Route:
        """What it says now."""

    async def swap(self, route: Route) -> Route:
        """Makes it what ``route`` says, if nobody has changed it since ``route.revision`` was read; gives it as it is
        then. Keeps ``moved_at`` itself. Raises `handover.ports.kube.Conflict` when somebody has.
        """

    async def behind(self) -> set[str]:
        """Names of the pods that new connections can reach now."""
