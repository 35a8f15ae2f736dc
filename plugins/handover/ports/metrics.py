"""Where measurements come from: pods, probes, the database, an error tracker; hosted monitors later."""

from __future__ import annotations

from typing import Protocol

from handover.models.evidence import Measurement


class MetricSource(Protocol):
    """One source of a watch. ``name`` stands in evidence and record."""

    name: str

    async def measure(self) -> list[Measurement]:
        """One look. A source that cannot be asked raises, and the text says why; the caller counts that as no data. So
        is a measurement without a value.
        """

    async def close(self) -> None:
        """Lets go of what it holds; the last call."""
