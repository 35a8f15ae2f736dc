"""Whether pods still serve anybody: their own request counters, twice, a few seconds apart, and their open connections
where the plan says how they are counted. Requests of the kubelet and of ours keep nobody busy.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover.ports.kube import KubeError
from handover.telemetry.counters import Counters, NoMetrics

if TYPE_CHECKING:
    from handover.telemetry.pods import PodReader


@dataclass(frozen=True)
class Look:
    """All ready pods at one moment: what each has counted, or why it does not tell."""

    counted: Mapping[str, Counters]
    silent: Mapping[str, str]

    @property
    def pods(self) -> int:
        return len(self.counted) + len(self.silent)

    def connections(self, own: int) -> float | None:
        """Open ones of clients; None where no pod tells.

        :param own: so many of each pod's are not clients'
        """
        told = [one.client_connections for one in self.counted.values() if one.client_connections is not None]
        return sum(max(0.0, one - own) for one in told) if told else None

    @property
    def problem(self) -> str:
        """Why it is not known how many requests there were; "" when it is."""
        return next((f"{pod} does not tell its requests: {why}" for pod, why in self.silent.items()), "")


async def look(reader: PodReader) -> Look:
    """Raises `KubeError` when the pods cannot be listed."""
    pods = [pod["metadata"]["name"] for pod in await reader.ready()]
    found = await asyncio.gather(*(_counted(reader, pod) for pod in pods))
    told = dict(zip(pods, found, strict=True))
    return Look(
        {pod: one for pod, one in told.items() if isinstance(one, Counters)},
        {pod: one for pod, one in told.items() if isinstance(one, str)},
    )


@dataclass
class Silence:
    """Looks now and then, until nobody asked for ``seconds`` and clients have closed their connections, where pods tell
    those. ``last``: what was seen last, for who gives up. ``idle``: how it is known that nobody asks any more, though
    connections are open still: these end with the pods, and lose nothing.
    """

    reader: PodReader
    seconds: float
    last: str = "the request counters were not read yet"
    idle: str = ""
    _before: tuple[float, Look] | None = None

    async def look(self, now: float) -> str | None:
        """How it is known that nobody is served; None while somebody is, or nobody knows. Raises `KubeError`.

        :param now: seconds since the epoch
        """
        if self._before and now - self._before[0] < self.seconds:
            return None
        found = await look(self.reader)
        if not found.pods:
            return "no pod is ready"
        before, self._before = self._before, (now, found)
        if before is None:
            return None
        passed = now - before[0]
        requests, problem = served(before[1], found, passed, self.reader.kubelet), found.problem
        self.idle = ""
        if requests == 0 and not problem and not before[1].problem:
            return self._still(f"no request in {passed:.1f} s", found)
        self.last = problem or f"{requests / passed:.1f} requests/s"
        return None

    def _still(self, idle: str, found: Look) -> str | None:
        """Nobody asks: whether anybody is connected."""
        left = found.connections(self.reader.own_connections)
        if not left:
            return idle if left is None else f"{idle}, and no client is connected"
        self.idle = self.last = f"{idle}; {left:g} open connections end with the pods"
        return None


def served(before: Look, after: Look, seconds: float, kubelet: Mapping[str, float]) -> float:
    """Requests of clients that all pods have answered between two looks.

    A pod that is new or started again counts from 0. Where labels do not tell who asked, a counter may have counted
    the kubelet's probes and our own look: as many as there can have been are taken off.

    :param kubelet: pod to the requests a second that the kubelet makes to it; pods that do not count them are not there
    """
    total = 0.0
    for pod, now in after.counted.items():
        then = before.counted.get(pod)
        begun = _asked(then) if then and then.metric == now.metric and _asked(then) <= _asked(now) else 0.0
        theirs = _others(kubelet[pod] * seconds) if now.mixed and pod in kubelet else 0
        total += max(0.0, _asked(now) - begun - theirs)
    return total


def _asked(counted: Counters) -> float:
    return counted.requests + counted.hung_up


def _others(probes: float) -> int:
    """The most requests that are not clients': so many probes, one that came a little early, and our look."""
    return math.floor(probes) + bool(probes) + 1


async def _counted(reader: PodReader, pod: str) -> Counters | str:
    try:
        return await reader.read(pod)
    except (KubeError, NoMetrics) as error:
        return str(error)
