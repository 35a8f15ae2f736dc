"""Whether the pods that serve now tell what a release will be judged by: found out before anything changes.

A watch that begins after the switch finds out too late that nobody can read the metrics, with all traffic on the new
version. `looks_at` looks, `problems` says what is wrong, by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from handover.models import names
from handover.plan.measures import measures_of
from handover.ports.kube import KubeError
from handover.telemetry.counters import LATENCIES, Counters, NoMetrics, NoRequests, several_processes
from handover.telemetry.pods import SEVERAL

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.telemetry.pods import PodReader

LOOKS = 12
"""Of two processes that answer by chance, so many looks miss one once in a thousand times."""
PAUSE_SECONDS = 0.1


class Kind(StrEnum):
    """What can be wrong with the pods' metrics."""

    NO_PODS = "no pod is ready"
    UNREADABLE = "unreadable"
    SEVERAL_PROCESSES = "several processes"
    NO_REQUESTS = "no requests counter"
    NO_STATUS = "no status"
    NO_LATENCY = "latency cannot be judged"
    NO_MEASURE = "a measure is missing"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, with the pods that it is wrong with.

    :param measures: those that cannot be judged for it (`handover.models.names`)
    """

    kind: Kind
    reason: str
    measures: tuple[str, ...]
    pods: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" + (f" ({', '.join(self.pods)})" if self.pods else "")


Look = Counters | Exception
"""One look at a pod, or why there is none."""
ALL = (names.ERROR_RATE, *LATENCIES, names.CPU, names.MEMORY, names.CACHE_HIT_RATE, names.POD_CONNECTIONS,
       names.DISK_IO, names.NETWORK_IO)  # fmt: skip
"""What is judged by pods' metrics."""


async def looks_at(source: PodReader, number: int = LOOKS, pause: float = PAUSE_SECONDS) -> dict[str, list[Look]]:
    """So many looks at each pod of a colour that is ready. Raises `KubeError` when they cannot be listed."""
    found: dict[str, list[Look]] = {pod["metadata"]["name"]: [] for pod in await source.ready()}

    async def look(pod: str) -> None:
        try:
            found[pod].append(await source.look(pod))
        except (KubeError, NoMetrics) as error:
            found[pod].append(error)

    for turn in range(number):
        await asyncio.sleep(pause if turn and found else 0.0)
        await asyncio.gather(*(look(pod) for pod in found))
    return found


def problems(looks: Mapping[str, Sequence[Look]]) -> list[Problem]:
    """What is wrong, each once, whatever the plan makes of it; nothing when all can be judged. Pure.

    :param looks: by pod, in their order
    """
    if not looks:
        return [Problem(Kind.NO_PODS, "nobody tells what the service does", ALL)]
    found: dict[Problem, list[str]] = {}
    for pod, seen in looks.items():
        for problem in _of_pod(seen):
            found.setdefault(problem, []).append(pod)
    together = [Problem(one.kind, one.reason, one.measures, tuple(pods)) for one, pods in found.items()]
    told = [look for seen in looks.values() for look in seen if isinstance(look, Counters)]
    if told and not any(look.series for look in told):
        reason = f"{told[0].metric} has no series yet, so nothing shows whether it tells the status: ask for something"
        together.append(Problem(Kind.NO_STATUS, reason, (names.ERROR_RATE,), tuple(looks)))
    return together


def matters(problem: Problem, plan: Plan) -> bool:
    """Whether it leaves a measure without data that the plan needs."""
    return any(one.source == names.PODS and one.name in problem.measures and one.is_needed for one in measures_of(plan))


def _of_pod(looks: Sequence[Look]) -> Iterator[Problem]:
    told = [look for look in looks if isinstance(look, Counters)]
    errors = [look for look in looks if isinstance(look, Exception)]
    if not looks:
        yield Problem(Kind.UNREADABLE, "nobody looked", ALL)
    for error in errors[-1:]:
        kind = Kind.NO_REQUESTS if isinstance(error, NoRequests) else Kind.UNREADABLE
        yield Problem(kind, str(error), ALL)
    if why := several_processes(told):
        yield Problem(Kind.SEVERAL_PROCESSES, f"{SEVERAL}: {why}", ALL)
    lacking = {measure: why for look in told for measure, why in look.lacking.items()}
    for why in dict.fromkeys(lacking.values()):
        measures = tuple(measure for measure, other in lacking.items() if other == why)
        yield Problem(_kind_of(measures), why, measures)


def _kind_of(measures: Sequence[str]) -> Kind:
    if names.ERROR_RATE in measures:
        return Kind.NO_STATUS
    return Kind.NO_LATENCY if set(LATENCIES) & set(measures) else Kind.NO_MEASURE
