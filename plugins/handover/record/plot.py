"""A line plot over time as SVG that needs nothing else: no script, no font, no picture from elsewhere.

Of our own, because matplotlib brings 60 MB with numpy for three pictures, and pygal has neither gaps nor moments on a
time axis and links a script of another site. It draws what was measured: a line is cut where nothing was measured for
longer than ``GAP_SECONDS``, and where there are more points than pixels, each pixel shows the worst one.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from handover.record.report import MarkedMoment, Plot, Series

WIDTH, HEIGHT = 860, 240
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 26, 42
COLOURS = ("#0b6e99", "#c2410c", "#6d28d9", "#047857")
LIMIT_COLOUR = "#b91c1c"
GAP_SECONDS = 10.0
LETTER_WIDTH = 5.6
Point = tuple[float, float]


@dataclass(frozen=True)
class _Frame:
    """Turns times and values into places in the picture."""

    begin: float
    end: float
    top: float
    """The highest value that fits."""

    def x(self, at: float) -> float:
        return LEFT + (at - self.begin) / max(1e-9, self.end - self.begin) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - min(value, self.top) / self.top * (HEIGHT - TOP - BOTTOM)


def svg(plot: Plot, moments: Iterable[MarkedMoment], begin: float, end: float) -> str:
    """One picture from ``begin`` to ``end`` (seconds since the epoch)."""
    values = [value for series in plot.series for _, value in series.points]
    frame = _Frame(begin, end, _round_up(max([*values, 1.15 * (plot.limit or 0.0), 1e-9])))
    body = [*_grid(frame, plot.unit), *_moments(frame, moments), *_limit(frame, plot)]
    for series, colour in zip(plot.series, COLOURS, strict=False):
        body += _line(frame, series, colour)
    body += _legend(plot)
    if not values:
        body.append(_text(WIDTH / 2, HEIGHT / 2, "nothing was measured", "middle", "#666"))
    label = escape(f"{plot.title} ({plot.unit})", {'"': "&quot;"})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        f'font-family="sans-serif" font-size="11">{"".join(body)}</svg>'
    )


def thinned(points: Sequence[Point], frame_begin: float, frame_end: float, cells: int) -> list[Point]:
    """At most one point for each of ``cells`` equal stretches of time: the highest one, which is the worst."""
    width = max(1e-9, frame_end - frame_begin) / cells
    worst: dict[int, Point] = {}
    for point in points:
        cell = int((point[0] - frame_begin) / width)
        if cell not in worst or point[1] > worst[cell][1]:
            worst[cell] = point
    return [worst[cell] for cell in sorted(worst)]


def pieces(points: Sequence[Point], gap: float = GAP_SECONDS) -> Iterator[list[Point]]:
    """The points in stretches without a gap."""
    piece: list[Point] = []
    for point in points:
        if piece and point[0] - piece[-1][0] > gap:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _line(frame: _Frame, series: Series, colour: str) -> Iterator[str]:
    cells = WIDTH - LEFT - RIGHT
    gap = max(GAP_SECONDS, 3 * (frame.end - frame.begin) / cells)
    for piece in pieces(thinned(series.points, frame.begin, frame.end, cells), gap):
        places = [(frame.x(at), frame.y(value)) for at, value in piece]
        if len(places) == 1:
            ((x, y),) = places
            yield f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="series" points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _grid(frame: _Frame, unit: str) -> Iterator[str]:
    for n in range(5):
        value = frame.top * n / 4
        y = frame.y(value)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>'
        yield _text(LEFT - 6, y + 4, f"{value:g}{' ' + unit if n == 4 else ''}", "end", "#555")
    step = _time_step(frame.end - frame.begin)
    at = math.ceil(frame.begin / step) * step
    while at <= frame.end:
        x = frame.x(at)
        yield f'<line x1="{x:.1f}" y1="{HEIGHT - BOTTOM}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM + 4}" stroke="#555"/>'
        yield _text(x, HEIGHT - BOTTOM + 16, _clock(at, step), "middle", "#555")
        at += step


def _moments(frame: _Frame, moments: Iterable[MarkedMoment]) -> Iterator[str]:
    end = -math.inf
    for moment in sorted(moments, key=lambda m: m.at):
        if not frame.begin <= moment.at <= frame.end:
            continue
        x = frame.x(moment.at)
        yield (
            f'<line class="moment" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#888" '
            f'stroke-dasharray="2 3"><title>{escape(moment.name)}</title></line>'
        )
        half = LETTER_WIDTH * len(moment.name) / 2
        if x - half > end:
            yield _text(x, TOP - 6, moment.name, "middle", "#444")
            end = x + half


def _limit(frame: _Frame, plot: Plot) -> Iterator[str]:
    if plot.limit is not None:
        y = frame.y(plot.limit)
        yield (
            f'<line class="limit" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{LIMIT_COLOUR}" '
            'stroke-dasharray="6 4"/>'
        )


def _legend(plot: Plot) -> Iterator[str]:
    entries = [(series.name, colour) for series, colour in zip(plot.series, COLOURS, strict=False)]
    if plot.limit is not None:
        entries.append((f"limit of the plan: {plot.limit:g} {plot.unit}", LIMIT_COLOUR))
    x = float(LEFT)
    for name, colour in entries:
        yield f'<rect x="{x:.1f}" y="{HEIGHT - 14}" width="12" height="4" fill="{colour}"/>'
        yield _text(x + 16, HEIGHT - 9, name, "start", "#333")
        x += 34 + 6.2 * len(name)


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten, so that quarters of it are short to write."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(n * power for n in (1, 2, 4, 6, 8, 10) if n * power >= value * (1 - 1e-9))


def _time_step(seconds: float) -> int:
    """Seconds between two marks, for about eight of them."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
    return next((step for step in steps if seconds / step <= 9), steps[-1])


def _clock(at: float, step: int) -> str:
    when = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{when:%H:%M:%S}" if step < 60 else f"{when:%H:%M}"
