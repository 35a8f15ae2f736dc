"""Which requests are clients', by the labels of their series: not the kubelet's, not our own. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from handover.telemetry.conventions import ROUTES
from handover.telemetry.exposition import Labels

WILD = re.compile(r"[*{:<]")
"""How a part of a route begins that stands for others: ``**``, ``{id}``, ``:id``, ``<id>``."""
MANY = re.compile(r"\*|\{\*|<path:")
"""The same of a last part that stands for several."""
OURS = re.compile("(health|ready|readi|probe|metrics|actuator)[a-z]*|live(z|ness)?|ping")
"""Parts of paths that only a cluster and we ask for."""
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
        if any(self._is_not_theirs(_bare(labels[label])) for label in ROUTES if label in labels):
            return False
        return not any(matches(labels, patterns) for patterns in self._leave_out)

    def _is_not_theirs(self, route: str) -> bool:
        return route in self._paths or any(_is_template_of(route, path) for path in self._paths)


def _is_template_of(route: str, path: str) -> bool:
    """Whether a path is counted under a route with wildcards, and the route is for such paths alone: a literal part
    before its first wildcard says so, since ``/api/{id}`` and ``/**`` hold requests of clients as well.
    """
    wanted, given = route.split("/"), path.split("/")
    first = next((number for number, part in enumerate(wanted) if WILD.match(part)), None)
    if first is None or not any(OURS.fullmatch(part) for part in wanted[:first]):
        return False
    if MANY.match(wanted[-1]):
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(
        part == found or WILD.match(part) for part, found in zip(wanted, given, strict=True)
    )


def _bare(path: str) -> str:
    """A path as all libraries write it: ``/health/?a=b``, ``health`` and ``GET /health`` are one."""
    return path.partition("?")[0].rpartition(" ")[2].strip("/")
