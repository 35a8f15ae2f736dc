"""Prometheus' text format, and OpenMetrics' as far as it is the same: of a page only what is wanted. Pure.

A page may have a megabyte and be read several times a second: the lines that are not wanted are passed over without
being looked at, and what the labels of a series say is learnt once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from sys import intern
from typing import Any

MAX_KNOWN = 20_000
"""Texts of labels that are remembered from page to page: more than a service should have, and no leak when they change
all the time.
"""
MAX_REMEMBERED = 20_000_000
"""Characters of them."""
MAX_LABELS = 16_384
"""Characters between two braces: a line may be as long as a page."""
CHUNK = 100_000
"""Characters that are read in one piece: some milliseconds, when each of its lines is wanted."""
ENDS = {"_total": ("counter", "unknown"), "_count": ("histogram", "summary"), "_bucket": ("histogram",)}
"""What samples are called after their family, and what the family is then."""
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t]*(?:,|$)')
_LABELS = re.compile(r'\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\}')
_BLANKS = re.compile(r"\s*")
_ESCAPE = re.compile(r'\\([\\"n])')
_SAMPLE = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^\n]*\})?[ \t]+[-+.0-9NnIi]", re.MULTILINE)


class Malformed(ValueError):
    """A line that was wanted is not in the format; the text says which."""


class Labels(dict[str, str]):
    """The labels of one series: the same object whenever they are the same. A label without a value is none.

    ``of``: the labels but ``le``, of a bucket; ``meaning``: what readers have made of them, by reader.
    """

    __slots__ = ("meaning", "of")
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, labels: Iterable[tuple[str, str]], of: Labels | None) -> None:
        super().__init__(labels)
        self.meaning: dict[object, Any] = {}
        self.of = of


class Page:
    """What was found in one text. ``parsed``: how many lines were read, and not passed over."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[Labels, float]] = {}
        self.types: dict[str, str] = {}
        self.twice: set[str] = set()
        """Metrics of which one series stands there more than once."""
        self.parsed = 0

    def type_of(self, metric: str) -> str | None:
        """As the page declares it; None when it does not."""
        if metric in self.types:
            return self.types[metric]
        kinds = ((self.types.get(metric.removesuffix(end)), of) for end, of in ENDS.items() if metric.endswith(end))
        return next((kind for kind, of in kinds if kind in of), None)

    def has(self, metric: str) -> bool:
        """Whether there are series of it, or are about to be."""
        return metric in self.samples or self.type_of(metric) is not None


class Lines:
    """Finds the samples of some metrics.

    :param metrics: names of samples, as ``http_requests_total`` or ``x_seconds_bucket``
    """

    def __init__(self, metrics: Collection[str]) -> None:
        typed = {*metrics, *(name.removesuffix(end) for name in metrics for end in ENDS)}
        either = (rf"#[ \t]*TYPE[ \t]+({_one_of(typed)})[ \t]+(\w+)", rf"({_one_of(metrics)})(?![\w:])([^\n]*)")
        self._wanted = re.compile(rf"\n[ \t]*(?:{'|'.join(either)})")
        self._known: dict[str, Labels] = {}
        self._series: dict[frozenset[tuple[str, str]], Labels] = {}
        self._remembered = 0

    def page(self) -> Page:
        """A new one, to read pieces into."""
        if len(self._known) > MAX_KNOWN or self._remembered > MAX_REMEMBERED:
            self._known.clear()
            self._series.clear()
            self._remembered = 0
        return Page()

    def read(self, text: str, page: Page) -> None:
        """Adds what a piece of a text says (see `pieces`) to the page. Raises `Malformed`."""
        samples, known = page.samples, self._known
        for number, found in enumerate(self._wanted.finditer(text), start=page.parsed + 1):
            typed, kind, name, rest = found.groups()
            page.parsed = number
            if typed:
                page.types[typed] = kind
                continue
            end = rest.rfind("}")
            labels = known.get(rest[:end]) if end > 0 else None
            if labels is None or "# {" in rest:
                labels, end = self._labels(name, rest)
            if (series := samples.get(name)) is None:
                series = samples[name] = {}
            if labels in series:
                page.twice.add(name)
            series[labels] = _value(name, rest[end + 1 :])

    def _labels(self, name: str, rest: str) -> tuple[Labels, int]:
        """The labels at the beginning of what follows a name, and where they end."""
        rest_of, begin = rest.lstrip(" \t"), len(rest) - len(rest.lstrip(" \t"))
        if not rest_of.startswith("{"):
            return self._series_of({}), -1
        if not (found := _LABELS.match(rest_of)):
            raise Malformed(f"the labels of {name} do not end")
        if len(found[1]) > MAX_LABELS:
            raise Malformed(f"the labels of {name} have more than {MAX_LABELS} characters")
        labels, end = self._series_of(parsed(found[1], name)), begin + found.end() - 1
        self._known[rest[:end]] = labels
        self._remembered += end
        return labels, end

    def _series_of(self, labels: dict[str, str]) -> Labels:
        key = frozenset((label, value) for label, value in labels.items() if value)
        if (known := self._series.get(key)) is None:
            of = self._series_of({k: v for k, v in labels.items() if k != "le"}) if "le" in labels else None
            known = self._series[key] = Labels(key, of)
        return known


def parsed(text: str, name: str) -> dict[str, str]:
    """What stands between the braces of a metric. Raises `Malformed`."""
    found: dict[str, str] = {}
    at = 0
    while _BLANKS.match(text, at).end() < len(text):  # type: ignore[union-attr]
        if not (label := _LABEL.match(text, at)) or label[1] in found:
            raise Malformed(f"unreadable labels of {name}")
        found[intern(label[1])] = _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], label[2])
        at = label.end()
    return found


def pieces(text: str) -> Iterator[str]:
    """A text in pieces for `Lines.read`, so that others get a turn in between."""
    begin = 0
    while begin < len(text):
        end = len(text) if len(text) - begin <= CHUNK else text.find("\n", begin + CHUNK)
        end = len(text) if end < 0 else end
        yield "\n" + text[begin:end]
        begin = end + 1


def is_exposition(text: str) -> bool:
    """Whether there is a sample in it at all."""
    return _SAMPLE.search(text) is not None


def _value(name: str, text: str) -> float:
    """The value in front of a timestamp and an exemplar, if there are any."""
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    value, *stamp = text.partition(" # ")[0].split() or [""]
    try:
        if "_" in value or len(stamp) > 1:
            raise ValueError
        for one in stamp:
            float(one)
        return float(value)
    except ValueError:
        raise Malformed(f"a value of {name} is no number") from None


def _one_of(names: Collection[str]) -> str:
    return "|".join(sorted(map(re.escape, names)))
