"""Where measurements come from: pods, probes, the database, an error tracker, and the monitors that a plan names.

Every implementation beside pods and probes passes ``tests/contracts/test_metrics.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from handover.models.evidence import Measurement


class NoData(Exception):
    """Why there is no value: one line, and no secret in it."""

    def __init__(self, why: str) -> None:
        super().__init__(" ".join(why.split()))


class NoAnswer(NoData):
    """The source cannot be asked: it is away, refuses us, or says what nobody understands."""


@dataclass(frozen=True)
class Query:
    """One measure of a source: its name, how the source is asked for it in its own language, and the unit."""

    name: str
    text: str
    unit: str = ""


class MetricSource(Protocol):
    """One source of a watch. ``name`` stands in evidence and record."""

    name: str

    async def measure(self) -> list[Measurement]:
        """One look, within the source's own bound of time. A source that cannot be asked raises (`NoAnswer`), and the
        text says why; the caller counts that as no data. So is a measurement without a value, whose ``why`` says why.
        ``at`` is when it was so, as far as the source tells.
        """

    async def close(self) -> None:
        """Lets go of what it holds; the last call, twice is fine."""
