"""Asks the pods of one colour for their metrics, through the API server's pod proxy, which works from anywhere."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from handover import clock
from handover.coordination.routing import is_ready
from handover.models import names
from handover.models.containers import find_container
from handover.telemetry.counters import NoMetrics, fallen, several_processes, started_again
from handover.telemetry.exposition import pieces
from handover.telemetry.reader import reader_of

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.telemetry.counters import Counters

READ_SECONDS = 2.0
LOOKS_KEPT = 8
"""So many looks in a row of which no counter fell are at one process."""
LOOKS_TO_BE_SURE = 4
LARGE = 32_000
"""Characters; less than that is read within a millisecond."""
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
SEVERAL = "several processes answer behind one port, each with counters of its own (look at multiprocess mode)"


class PodReader:
    """What `pods` and `read` give is of one colour; of all pods of the service without one.

    Where each look may meet another process, no counter means anything: a pod is looked at again at once when its
    counters fell, and at first also when its errors grew. What an old process had counted does not come back after a
    restart; what another one has counted does.
    """

    def __init__(self, kube: Kube, plan: Plan, colour: str | None) -> None:
        self._kube, self._cluster, self._rules = kube, plan.cluster, plan.pod_metrics
        self._labels, self._reader = plan.cluster.selector_of(colour), reader_of(plan)
        self._asked_by_clients = {*plan.health.key_endpoints, "/"}
        self._looks: dict[str, list[Counters]] = {}
        self._several: dict[str, str] = {}
        self._strange: dict[str, float] = {}
        self._probed: dict[str, frozenset[str]] = {}
        self.own_connections = plan.pod_metrics.own_connections
        self.restarts: dict[str, int] = {}
        """Pod to how often its containers were started again; of all pods of the colour, ready or not."""
        self.kubelet: dict[str, float] = {}
        """Pod to the requests a second that the kubelet makes to it, unless the plan says that none are counted. They
        are among a pod's requests where `Counters.mixed` says so.
        """

    async def ready(self) -> list[Json]:
        """The pods that are ready now. Raises `KubeError`."""
        pods = {pod["metadata"]["name"]: pod for pod in await self._kube.list("pods", self._labels)}
        restarts = {name: restarts_of(pod) for name, pod in pods.items()}
        for name in [name for name in self._looks if restarts.get(name) != self.restarts.get(name)]:
            del self._looks[name]  # gone, or a new life
            self._several.pop(name, None)
        self.restarts = restarts
        probes = {name: list(self._probes_of(pod)) for name, pod in pods.items()}
        self._probed = {
            name: frozenset(path for path, _ in found if path not in self._asked_by_clients)
            for name, found in probes.items()
        }
        if self._rules.counts_kubelet:
            self.kubelet = {name: sum(rate for _, rate in found) for name, found in probes.items()}
        return [pod for pod in pods.values() if is_ready(pod)]

    async def read(self, pod: str) -> Counters:
        """One look. Raises `KubeError`, and `NoMetrics` when it tells no requests, or is several processes."""
        if why := self._several.get(pod):
            raise NoMetrics(why)
        looks = self._looks.setdefault(pod, [])
        looks.append(await self.look(pod))
        if _doubtful(looks):
            for _ in range(LOOKS_TO_BE_SURE):
                looks.append(await self.look(pod))
                if several_processes(looks):
                    break
            if why := several_processes(looks):
                self._several[pod] = f"{SEVERAL}: {why}"
                raise NoMetrics(self._several[pod])
            begins = max((i for i in range(1, len(looks)) if fallen(looks[i], looks[i - 1])), default=0)
            del looks[:begins]
        del looks[:-LOOKS_KEPT]
        return self._grown(pod, looks[-1])

    def _grown(self, pod: str, found: Counters) -> Counters:
        """Without those that ended as nobody knows before the first look: what does not grow is of no request now."""
        before = self._strange.get(pod)
        self._strange[pod] = found.strange if before is None else min(before, found.strange)
        if before is None or math.isinf(found.strange) or found.strange > self._strange[pod]:
            return found
        return replace(found, lacking={what: why for what, why in found.lacking.items() if what != names.ERROR_RATE})

    async def look(self, pod: str) -> Counters:
        """The same, whatever other looks have said."""
        port, reader = self._rules.port or self._cluster.port, self._reader
        text = reader.fitting(await self._kube.proxy(pod, port, self._rules.path, timeout=READ_SECONDS))
        at, page = clock.monotonic(), reader.page()
        async with _turn() if len(text) > LARGE else nullcontext():
            for piece in pieces(text):
                reader.add(piece, page)
                if len(text) > LARGE:
                    await asyncio.sleep(0)
            return reader.counters(text, page, at, self._probed.get(pod, frozenset()))

    def _probes_of(self, pod: Json) -> Iterator[tuple[str, float]]:
        """Path of each HTTP probe of the kubelet, and how many requests a second it makes where clients are served,
        while the pod is ready: another port is none of theirs, and its requests are not among them.
        """
        container = find_container(pod["spec"], self._cluster.container) or {}
        for kind in ("livenessProbe", "readinessProbe"):
            probe = container.get(kind) or {}
            if "httpGet" in probe:
                asked = probe["httpGet"]
                here = _number(asked.get("port"), container) in (None, self._cluster.port)
                yield asked.get("path", "/"), 1.0 / (probe.get("periodSeconds") or 10) if here else 0.0


def _number(port: int | str | None, container: Json) -> int | None:
    """Of a port that may be the name of one of the container's; 0 for one that is not known."""
    named = {one["name"]: int(one["containerPort"]) for one in container.get("ports") or () if "name" in one}
    if port is None:
        return None
    return int(port) if str(port).isdecimal() else named.get(str(port), 0)


def _turn() -> asyncio.Lock:
    """Large answers are read one after the other, piece by piece, whoever of this process watches: in between everybody
    else gets a turn.
    """
    return _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def restarts_of(pod: Json) -> int:
    """How often the containers of a pod were started again, sidecars too."""
    always = {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    status = pod.get("status") or {}
    sidecars = [one for one in status.get("initContainerStatuses") or () if one["name"] in always]
    return sum(one.get("restartCount", 0) for one in [*(status.get("containerStatuses") or ()), *sidecars])


def _doubtful(looks: Sequence[Counters]) -> bool:
    """Whether the last look may have met another process than those before."""
    if len(looks) < 2:
        return False
    new, old = looks[-1], looks[-2]
    new_to_us = len(looks) <= LOOKS_KEPT and new.errors > old.errors
    other_birth = started_again(new, old) or started_again(old, new)
    return bool(fallen(new, old)) or other_birth or new_to_us
