"""What the cluster says of objects beside their status: a volume that cannot be mounted, what a probe was answered.

It is read where the deployer may read it; whoever may not does without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from handover import clock
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from handover.kube.reasons import Said
    from handover.ports.kube import Json, Kube

EVERY_SECONDS = 5.0
MAX_OBJECTS = 3


class Events:
    """The events of a few objects, asked for every few seconds, and after a refusal never again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, list[Json]]] = {}
        self._refused = False

    async def of(self, kube: Kube, names: Iterable[str]) -> Said:
        """By the name of the object that they are about."""
        wanted = list(dict.fromkeys(names))[:MAX_OBJECTS]
        for name in wanted:
            if self._refused:
                break
            at, events = self._known.get(name, (float("-inf"), []))
            if clock.monotonic() - at >= EVERY_SECONDS:
                self._known[name] = clock.monotonic(), await self._asked(kube, name, events)
        return {name: self._known[name][1] for name in wanted if name in self._known}

    async def _asked(self, kube: Kube, name: str, before: list[Json]) -> list[Json]:
        try:
            return await kube.events(name)
        except KubeError as error:
            self._refused = not error.passing
            return before
