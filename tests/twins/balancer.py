"""The twin of a load balancer that has pod addresses as targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from handover import clock
from tests.twins.kube import Pod


@dataclass
class Balancer:
    """Lets a new pod in after some seconds of health checks, and drops one at once that is behind the Service no more.

    ``entry``: a pod to these seconds; ``fewest``: as many targets as there were at least, whenever somebody asked.
    """

    entry: Callable[[Pod], float]
    since: dict[str, float] = field(default_factory=dict)
    fewest: int = 1_000_000

    def knows(self, pods: list[Pod]) -> None:
        """These were let in long ago."""
        self.since = {pod.name: float("-inf") for pod in pods}

    def targets(self, behind: list[Pod]) -> list[Pod]:
        now = clock.monotonic()
        self.since = {pod.name: self.since.get(pod.name, now) for pod in behind}
        found = [pod for pod in behind if now - self.since[pod.name] >= self.entry(pod)]
        self.fewest = min(self.fewest, len(found))
        return found
