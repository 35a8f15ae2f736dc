"""Which requests are clients', by the labels of their series: not the kubelet's, not our own. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from handover.telemetry.conventions import ROUTES
from handover.telemetry.exposition import Labels

Patterns = Mapping[str, re.Pattern[str]]


def compiled(labels: Mapping[str, str]) -> Patterns:
    return {label: re.compile(pattern) for label, pattern in labels.items()}


def matches(labels: Labels, patterns: Patterns) -> bool:
    """Whether each of these labels matches whole; one that is not there is empty."""
    return all(pattern.fullmatch(labels.get(label, "")) for label, pattern in patterns.items())


class Clients:
    """Tells series of clients from others.

    :param leave_out: of the plan: labels of requests that are not clients'
    :param paths: that clients never ask for. ``/`` is none of them, whoever else asks for it.
    """

    def __init__(self, leave_out: Sequence[Patterns], paths: Iterable[str]) -> None:
        self._leave_out, self._paths = leave_out, {_bare(path) for path in paths} - {""}
        self._telling = {*ROUTES, *(label for patterns in leave_out for label in patterns)}

    def are_told(self, labels: Labels) -> bool:
        """Whether these labels could tell that a request is not a client's."""
        return not self._telling.isdisjoint(labels)

    def sent(self, labels: Labels) -> bool:
        """Whether requests with these labels count."""
        series = labels if labels.of is None else labels.of
        if (found := series.meaning.get(self)) is None:
            found = series.meaning[self] = self._sent(series)
        return bool(found)

    def _sent(self, labels: Labels) -> bool:
        if any(_bare(labels[label]) in self._paths for label in ROUTES if label in labels):
            return False
        return not any(matches(labels, patterns) for patterns in self._leave_out)


def _bare(path: str) -> str:
    """A path as all libraries write it: ``/health/?a=b``, ``health`` and ``GET /health`` are one."""
    return path.partition("?")[0].rpartition(" ")[2].strip("/")
