"""A report as Markdown, and as one HTML file that needs nothing else. The wording is in ``include/report``."""

from __future__ import annotations

import base64
import datetime
from typing import TYPE_CHECKING, Any

from handover.models import markup
from handover.plan.model import INCLUDE
from handover.record.plot import svg
from handover.record.report import DeploymentReport

if TYPE_CHECKING:
    from jinja2 import Environment

    from handover.record.dora import Dora

FOLDER = INCLUDE / "report"
SIGNS = {"passed": "✓", "asked": "✓", "failed": "✗", "not yet known": "?"}
"""Plain letters: not every machine has a font with pictures."""
EVIDENCE_LETTERS = 240


def markdown(report: DeploymentReport) -> str:
    return _environment(False).get_template("report.md.j2").render(r=report, signs=SIGNS)


def html(report: DeploymentReport) -> str:
    margin = max(2.0, 0.02 * report.seconds)
    begin, end = report.started_at - margin, report.ended_at + margin
    points = [at for plot in report.plots for series in plot.series for at, _ in series.points]
    if points:  # what is measured is what is shown: phase 1 may take hours without a sample
        begin, end = max(begin, min(points) - 15), min(end, max(points) + 15)
    plots = [(plot, _picture(svg(plot, report.moments, begin, end))) for plot in report.plots]
    return _environment(True).get_template("report.html.j2").render(r=report, plots=plots, signs=SIGNS)


def _picture(drawn: str) -> str:
    """As an address that holds all of it: what is in a picture is never a part of the page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"


def dora_markdown(dora: Dora) -> str:
    return _environment(False).get_template("dora.md.j2").render(d=dora)


def _environment(as_html: bool) -> Environment:
    """In Markdown, what comes from outside can neither form tables nor links nor HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def finish(value: Any) -> Any:
        return markup.markdown(value) if isinstance(value, str) else value

    found = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=as_html,  # noqa: S701 - Markdown is not HTML
        finalize=None if as_html else finish,
    )  # fmt: skip
    found.filters |= {"clock": clock, "day": day, "duration": duration, "short": short}
    return found


def short(text: str) -> str:
    """For the checklist; the log has all of it."""
    text = " ".join(text.split())
    return text if len(text) <= EVIDENCE_LETTERS else f"{text[:EVIDENCE_LETTERS]} …"


def clock(at: float | None) -> str:
    return f"{_utc(at):%H:%M:%S}" if at is not None else ""


def day(at: float | None) -> str:
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC" if at is not None else ""


def duration(seconds: float | None) -> str:
    """``1 d 2 h``, ``3 min 20 s`` or ``4.2 s``; "not known" for None."""
    if seconds is None:
        return "not known"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _utc(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC)
