"""Which counter counts the requests of a page, and how many of them were answered badly. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from handover.telemetry.clients import compiled, matches
from handover.telemetry.conventions import CONVENTIONS, Convention, Status, counter_of
from handover.telemetry.counters import NoMetrics, NoRequests

if TYPE_CHECKING:
    from handover.plan.pod_metrics import PodMetricsRules
    from handover.telemetry.clients import Clients
    from handover.telemetry.exposition import Labels, Page

COUNTING = (None, "counter", "histogram", "summary", "untyped", "unknown")
"""Types of metrics that can count requests."""
SAY = "say in the plan which one counts (pod_metrics.requests)"


@dataclass
class Tally:
    """What one counter of requests says. ``unknown``: why some of them are neither good nor bad answers."""

    convention: Convention
    requests: float = 0.0
    errors: float = 0.0
    series: int = 0
    unknown: str = ""
    hung_up: float = 0.0
    strange: float = 0.0
    """How many of them these are; ``inf`` where no label tells how any ended."""
    told: bool = False
    """Whether labels tell clients' requests from others."""

    @property
    def rank(self) -> int:
        """The counter that tells the status comes first, then one that may."""
        return 2 if self.unknown else int(not self.series)


@dataclass(frozen=True)
class Ending:
    """What the labels of one series say of its requests."""

    error: bool = False
    hung_up: bool = False
    unknown: str = ""
    """Why they ended neither well nor badly."""
    mute: bool = False
    """No label says anything about that."""
    ours: bool = True
    """Whether the plan means this series at all."""
    counts: bool = True
    """Whether they are clients'."""
    told: bool = False
    """Whether labels tell that."""


class RequestCounters:
    """The counters that the plan names, or that are known by convention."""

    def __init__(self, rules: PodMetricsRules) -> None:
        mine = rules.requests
        self.conventions: tuple[Convention, ...] = (counter_of(mine),) if mine else CONVENTIONS
        self._only = compiled(mine.labels) if mine else {}

    def tally(self, page: Page, clients: Clients) -> Tally:
        """Raises `NoRequests`, and `NoMetrics` where it is not clear what counts."""
        here = [one for one in self.conventions if page.has(one.requests)]
        if not here:
            known = self.conventions[0].requests if len(self.conventions) == 1 else "that is known"
            raise NoRequests(f"no counter of requests {known} in the metrics; {SAY}")
        tallies = [self._of(one, page, clients) for one in here if page.type_of(one.requests) in COUNTING]
        if not tallies:
            raise NoRequests(f"{here[0].requests} is a {page.type_of(here[0].requests)}, which counts nothing; {SAY}")
        return _most_specific(tallies)

    def _of(self, convention: Convention, page: Page, clients: Clients) -> Tally:
        found, key = Tally(convention), (convention.requests, clients)
        for labels, value in page.samples.get(convention.requests, {}).items():
            ending = labels.meaning.get(key)
            if ending is None:
                ending = labels.meaning[key] = self._ending(labels, convention, clients)
            if not ending.ours:
                continue
            if not 0 <= value < math.inf:
                raise NoMetrics(f"{convention.requests} is {value:g}")
            found.series += 1
            found.told = found.told or ending.told
            if ending.counts:
                found.requests += 0.0 if ending.hung_up else value
                found.hung_up += value if ending.hung_up else 0.0
                found.errors += value if ending.error else 0.0
            if ending.mute or (ending.counts and ending.unknown and value):
                found.unknown = found.unknown or ending.unknown
                found.strange += math.inf if ending.mute else value
        if convention.requests in page.twice:
            raise NoMetrics(f"{convention.requests} has the same series twice")
        return found

    def _ending(self, labels: Labels, convention: Convention, clients: Clients) -> Ending:
        if not matches(labels, self._only):
            return Ending(ours=False)
        return replace(_ending(labels, convention), counts=clients.sent(labels), told=clients.are_told(labels))


def _most_specific(tallies: list[Tally]) -> Tally:
    best = [one for one in tallies if one.rank == min(other.rank for other in tallies)]
    best = [one for one in best if not one.convention.generic] or best
    if len({one.convention.family for one in best}) > 1:
        both = ", ".join(f"{one.convention.requests} ({one.convention.name})" for one in best)
        raise NoMetrics(f"ambiguous, more than one metric counts requests: {both}; {SAY}")
    return best[0]


def _ending(labels: Labels, convention: Convention) -> Ending:
    """By the labels that tell the status."""
    metric, here = convention.requests, [one for one in convention.status if one.label in labels]
    if not here:
        others = f"only {', '.join(sorted(labels))}" if labels else "no label at all"
        wanted = ", ".join(one.label for one in convention.status)
        return Ending(unknown=f"{metric} tells no status: it has {others}, and none of {wanted}", mute=True)
    here = [one for one in here if not one.alone] or here
    said = set(_said(labels, here))
    if len(said) == 1:
        return Ending(error=said.pop())
    if not said and all(re.fullmatch(one.hung_up, labels[one.label]) for one in here):
        return Ending(hung_up=True)
    values = ", ".join(f'{one.label}="{labels[one.label][:40]}"' for one in here)
    why = "do not agree" if said else "is no status that is known; say in the plan what it is (pod_metrics.requests)"
    return Ending(unknown=f"{metric}{{{values}}} {why}")


def _said(labels: Labels, status: list[Status]) -> Iterator[bool]:
    """Of each label that says how requests ended, whether it was an error."""
    for one in status:
        value = labels[one.label]
        if re.fullmatch(one.errors, value):
            yield True
        elif re.fullmatch(one.fine, value):
            yield False
