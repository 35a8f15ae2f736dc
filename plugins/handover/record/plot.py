"""A line plot over time as an SVG picture, drawn by matplotlib.

It shows what was measured: a line is cut where nothing was measured for longer than ``GAP_SECONDS``, what stands alone
is a dot, and where there are more points than the picture can show, the worst ones are left.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from handover.record.report import MarkedMoment, Plot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (9.0, 2.7)
"""Inches; text is made for a page that shows them."""
COLOURS = ("#0b6e99", "#c2410c", "#6d28d9", "#047857")
LIMIT_COLOUR, MOMENT_COLOUR = "#b91c1c", "#6b7280"
CELLS = 430
"""Points of a line, at most: one for every two pixels."""
GAP_SECONDS = 10.0
ROWS = 2
"""Of the names of moments, so that two near each other can both be read."""
LOOKS: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: small, and found by who searches
    "svg.hashsalt": "report",  # the same record is the same picture
    "text.parse_math": False,  # a dollar sign is one
    "date.autoformatter.minute": "%H:%M", "date.autoformatter.hour": "%H:%M", "date.autoformatter.second": "%H:%M:%S",
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9ca3af",
    "axes.ymargin": 0.15, "lines.linewidth": 1.4, "lines.markersize": 4, "legend.frameon": False,
}  # fmt: skip
Point = tuple[float, float]


def svg(plot: Plot, moments: Iterable[MarkedMoment], begin: float, end: float) -> str:
    """One picture from ``begin`` to ``end`` (seconds since the epoch)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(LOOKS):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot(ylabel=plot.unit)
        for number, (series, colour) in enumerate(zip(plot.series, COLOURS, strict=False)):
            if series.points:
                _line(axes, series, begin, end, color=colour, label=series.name, gid=f"series-{number}")
        if plot.limit is not None:
            label = f"limit of the plan: {plot.limit:g} {plot.unit}"
            axes.axhline(plot.limit, color=LIMIT_COLOUR, linestyle="--", linewidth=1, label=label, gid="limit")
        _moments(axes, (moment for moment in moments if begin <= moment.at <= end))
        if not any(series.points for series in plot.series):
            axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes)
        axes.set_xlim(_utc(begin), _utc(end))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#e5e7eb")
        figure.legend(loc="outside lower left", ncols=len(COLOURS) + 1)
        picture = StringIO()
        figure.savefig(picture, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = picture.getvalue()
    return text[text.index("<svg") :]


def _line(axes: Axes, series: Series, begin: float, end: float, **looks: Any) -> None:
    points = cut(thinned(series.points, begin, end, CELLS), max(GAP_SECONDS, 3 * (end - begin) / CELLS))
    values = [math.nan, *(value for _, value in points), math.nan]
    alone = [n for n in range(len(points)) if math.isnan(values[n]) and math.isnan(values[n + 2])]
    axes.plot([_utc(at) for at, _ in points], values[1:-1], marker="o", markevery=alone, **looks)


def _moments(axes: Axes, moments: Iterable[MarkedMoment]) -> None:
    for number, moment in enumerate(sorted(moments, key=lambda one: one.at)):
        at = _utc(moment.at)
        axes.axvline(at, color=MOMENT_COLOUR, linestyle=":", linewidth=1, gid=f"moment-{number}")
        axes.annotate(
            moment.name, (at, 1), (0, 3 + 10 * (number % ROWS)), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", color=MOMENT_COLOUR,
        )  # fmt: skip


def thinned(points: Sequence[Point], begin: float, end: float, cells: int) -> list[Point]:
    """At most one point for each of ``cells`` equal stretches of time: the highest one, which is the worst."""
    width = max(1e-9, end - begin) / cells
    worst: dict[int, Point] = {}
    for point in points:
        cell = int((point[0] - begin) / width)
        if cell not in worst or point[1] > worst[cell][1]:
            worst[cell] = point
    return [worst[cell] for cell in sorted(worst)]


def cut(points: Sequence[Point], gap: float = GAP_SECONDS) -> list[Point]:
    """The same with "not a number" in each gap, where a line ends and the next one begins. ``gap``: seconds."""
    found: list[Point] = []
    for point in points:
        if found and point[0] - found[-1][0] > gap:
            found.append((point[0], math.nan))
        found.append(point)
    return found


def _utc(at: float) -> Any:
    """A place on the axis: a moment, which the library takes and its types do not know."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC)
