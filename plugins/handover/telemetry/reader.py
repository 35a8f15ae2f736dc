"""From a page of metrics to `Counters`: which of its metrics count, in the plan's words or by convention. Pure.

What is not recognised is never taken as zero or as fine: a measure that a page cannot tell is named in
`Counters.lacking`, with the reason; a page that tells no requests at all raises `NoMetrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from handover.models import names
from handover.telemetry.clients import Clients, compiled, matches
from handover.telemetry.conventions import BORN, RESOURCES
from handover.telemetry.counters import LATENCIES, Buckets, Counters, NoMetrics
from handover.telemetry.exposition import Lines, Malformed, Page, is_exposition, pieces
from handover.telemetry.histograms import NoLatency, buckets_of, histograms_of
from handover.telemetry.requests import RequestCounters

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.plan.pod_metrics import PodMetricsRules, Series

FIELDS = {
    "cpu_seconds": "cpu_seconds", "memory_bytes": "memory_bytes", "connections": "connections",
    "client_connections": "client_connections", "cache_hits": "hits", "cache_misses": "misses",
    "disk_bytes": "disk_bytes", "network_bytes": "network_bytes",
}  # fmt: skip
"""Key in the plan to the field of `Counters`."""
MEASURES = {
    "cpu_seconds": names.CPU, "memory_bytes": names.MEMORY, "connections": names.POD_CONNECTIONS,
    "cache_hits": names.CACHE_HIT_RATE, "cache_misses": names.CACHE_HIT_RATE, "disk_bytes": names.DISK_IO,
    "network_bytes": names.NETWORK_IO,
}  # fmt: skip
"""Key in the plan to the measure that cannot be told without it; no measure is made of clients' connections."""
MIXED = "none of its labels tells requests of the kubelet and of ours"


class Reader:
    """Reads pages as one plan says. It learns what labels mean, so that one is enough for all pods of a service.

    :param paths: that only we ask for: of the health check, of the metrics
    """

    def __init__(self, rules: PodMetricsRules, paths: Iterable[str] = ()) -> None:
        self._rules, self._paths = rules, frozenset(paths)
        self._counters = RequestCounters(rules)
        self._leave_out = [compiled(labels) for labels in rules.leave_out]
        mine = {key: getattr(rules, key) for key in RESOURCES}
        self._used = {key: (mine[key],) if mine[key] else known for key, known in RESOURCES.items()}
        self._clients: dict[frozenset[str], Clients] = {}
        self._lines = Lines(self._wanted())

    def read(self, text: str, at: float, probed: frozenset[str] = frozenset()) -> Counters:
        """Raises `NoMetrics`, also for text that is no metrics at all.

        :param probed: paths that the kubelet asks this pod for
        """
        page = self.page()
        for piece in pieces(self.fitting(text)):
            self.add(piece, page)
        return self.counters(text, page, at, probed)

    def fitting(self, text: str) -> str:
        """The text. Raises `NoMetrics` when it is too large to be read."""
        if len(text) > self._rules.max_bytes:
            raise NoMetrics(f"{len(text)} bytes of metrics, more than {self._rules.max_bytes} (pod_metrics.max_bytes)")
        return text

    def page(self) -> Page:
        """A new one, to read `pieces` into."""
        return self._lines.page()

    def add(self, piece: str, page: Page) -> None:
        """Reads one of the `pieces` of a text. Raises `NoMetrics`."""
        try:
            self._lines.read(piece, page)
        except Malformed as error:
            raise NoMetrics(f"unreadable metrics: {error}") from None

    def counters(self, text: str, page: Page, at: float, probed: frozenset[str] = frozenset()) -> Counters:
        """What a page that was read whole says. Raises `NoMetrics`."""
        if not page.parsed and not is_exposition(text):
            raise NoMetrics(f"no metrics: {'an empty answer' if not text.strip() else 'other text'}")
        clients = self._clients_of(probed)
        tally = self._counters.tally(page, clients)
        lacking = {names.ERROR_RATE: tally.unknown} if tally.unknown else {}
        buckets: Buckets = {}
        try:
            buckets = buckets_of(page, histograms_of(tally.convention, self._rules.latency), clients)
        except NoLatency as error:
            lacking |= dict.fromkeys(LATENCIES, str(error))
        uses, missing = self._uses(page)
        metric = tally.convention.requests
        mixed = tally.series and not tally.told and self._rules.counts_probes
        return Counters(
            at, tally.requests, tally.errors, buckets, **uses, born=_told(page, BORN), lacking=lacking | missing,
            metric=metric, series=tally.series, hung_up=tally.hung_up, strange=tally.strange,
            mixed=f"{metric}: {MIXED}" if mixed else "",
        )  # fmt: skip

    def _clients_of(self, probed: frozenset[str]) -> Clients:
        if probed not in self._clients:
            self._clients[probed] = Clients(self._leave_out, self._paths | probed)
        return self._clients[probed]

    def _wanted(self) -> set[str]:
        """The names of all samples that may count."""
        conventions = self._counters.conventions
        timed = {one.metric for known in conventions for one in histograms_of(known, self._rules.latency)}
        used = {one.metric for known in self._used.values() for one in known} | {BORN.metric}
        return {one.requests for one in conventions} | timed | {f"{metric}_bucket" for metric in timed} | used

    def _uses(self, page: Page) -> tuple[dict[str, float | None], dict[str, str]]:
        """What the pod uses, and the measures that it does not tell, with the reasons."""
        found: dict[str, float | None] = {}
        lacking: dict[str, str] = {}
        for key, known in self._used.items():
            values = (value for one in known if (value := _told(page, one)) is not None)
            found[FIELDS[key]] = next(values, None)
            if found[FIELDS[key]] is None and key in MEASURES:
                lacking[MEASURES[key]] = _why(page, key, known)
        return found, lacking


def reader_of(plan: Plan) -> Reader:
    """What reads the pods of this plan."""
    drain = (plan.traffic.drain_path,) if plan.traffic.drain_path else ()
    return Reader(plan.pod_metrics, (plan.health.path, plan.pod_metrics.path, *drain))


def _told(page: Page, series: Series) -> float | None:
    """The sum of these series; None when it is not there, or no number."""
    labels = compiled(series.labels)
    values = [value for found, value in page.samples.get(series.metric, {}).items() if matches(found, labels)]
    total = sum(values) * series.times
    return total if values and math.isfinite(total) and series.metric not in page.twice else None


def _why(page: Page, key: str, known: tuple[Series, ...]) -> str:
    if not known:
        return f"the plan does not name it (pod_metrics.{key})"
    if here := next((one.metric for one in known if one.metric in page.samples), ""):
        return f"{here} has the same series twice" if here in page.twice else f"{here} has no number with these labels"
    return f"no {' or '.join(one.metric for one in known)} in the metrics"
