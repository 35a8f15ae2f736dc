"""How long requests took, from the buckets of a page's histogram. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from handover.plan.pod_metrics import PER_SECOND
from handover.telemetry.clients import Patterns, compiled, matches

if TYPE_CHECKING:
    from handover.plan.pod_metrics import LatencyHistogram
    from handover.telemetry.clients import Clients
    from handover.telemetry.conventions import Convention
    from handover.telemetry.counters import Buckets
    from handover.telemetry.exposition import Labels, Page

TIMING = (None, "histogram", "untyped", "unknown")
"""Types of metrics whose buckets can be added up."""


class NoLatency(ValueError):
    """The text says why a page does not tell how long requests took."""


def histograms_of(convention: Convention, mine: LatencyHistogram | None) -> tuple[LatencyHistogram, ...]:
    """The plan's own histogram, or those of a convention."""
    return (mine,) if mine else convention.latency


def buckets_of(page: Page, histograms: tuple[LatencyHistogram, ...], clients: Clients) -> Buckets:
    """Of the first histogram that is there, in seconds; empty as long as nobody was answered. Raises `NoLatency`."""
    if not histograms:
        raise NoLatency("the plan does not name a histogram of how long requests took (pod_metrics.latency)")
    other = ""
    for metric, histogram in ((one.metric, one) for one in histograms):
        kind = _kind(page, metric)
        if kind == "histogram":
            return _buckets(page, histogram, clients)
        if kind and not other:
            other = f"{metric} is a {kind}, which cannot be added up over pods and time"
    raise NoLatency(other or f"no histogram {' or '.join(one.metric for one in histograms[:2])} in the metrics")


def _kind(page: Page, metric: str) -> str:
    """What it is; "" when it is not there."""
    kind = page.type_of(metric)
    if kind not in TIMING:
        return str(kind)
    if kind == "histogram" or f"{metric}_bucket" in page.samples:
        return "histogram"
    return "summary" if any("quantile" in labels for labels in page.samples.get(metric, ())) else ""


def _buckets(page: Page, histogram: LatencyHistogram, clients: Clients) -> Buckets:
    metric, only = f"{histogram.metric}_bucket", compiled(histogram.labels)
    sums: defaultdict[float, float] = defaultdict(float)
    layouts: defaultdict[float, int] = defaultdict(int)
    series: set[Labels | None] = set()
    key = ("le", clients)
    for labels, count in page.samples.get(metric, {}).items():
        bound, counts = labels.meaning.get(key) or _bucket(labels, only, clients)
        if bound is None:
            continue
        if bound != bound:
            raise NoLatency(f'{metric} without a number in its label "le"')
        if not 0 <= count < math.inf:
            raise NoLatency(f"{metric} is {count:g}")
        series.add(labels.of)
        layouts[bound] += 1
        sums[bound] += count if counts else 0.0
    if metric in page.twice:
        raise NoLatency(f"{metric} has the same series twice")
    return _checked(metric, {b: sums[b] for b, n in layouts.items() if n == len(series)}, PER_SECOND[histogram.unit])


def _checked(metric: str, common: dict[float, float], per_second: float) -> Buckets:
    """The bounds that all series have: of the others nobody knows how many of all requests they hold."""
    if not common:
        return {}
    bounds = sorted(common)
    if math.inf not in common:
        raise NoLatency(f'{metric} has no le="+Inf"')
    if len(bounds) == 1:
        raise NoLatency(f'{metric} has no le but "+Inf" that all its series have')
    if any(common[lower] > common[upper] for lower, upper in pairwise(bounds)):
        raise NoLatency(f"{metric} falls from one le to the next")
    return {bound / per_second: common[bound] for bound in bounds}


def _bucket(labels: Labels, only: Patterns, clients: Clients) -> tuple[float | None, bool]:
    """The upper bound (not a number where there is none; None: not meant by the plan), and whether it is of clients."""
    bound: float | None = None
    if matches(labels, only):
        try:
            bound = float(labels.get("le", ""))
        except ValueError:
            bound = math.nan
    found = labels.meaning["le", clients] = bound, clients.sent(labels)
    return found
