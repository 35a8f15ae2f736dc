"""What a watch says of itself while it watches. No I/O here."""

from __future__ import annotations

from handover.models.evidence import Frozen, Measurement, Verdict


class Heartbeat(Frozen):
    """One sign of life of one watch. ``at`` and ``clean_since`` are seconds since the epoch.

    ``watcher``: which one, since several may watch one deployment. ``armed``: whether every source has given data.
    ``clean_since``: since when the version that clients meet was seen without a breach, in one piece; None while
    clients do not meet it, and after a breach. ``verdict``, ``reason`` and ``measurements``: what a soak that ended now
    would say.
    """

    watcher: str
    at: float
    armed: bool = False
    clean_since: float | None = None
    verdict: Verdict = Verdict.UNKNOWN
    reason: str = ""
    measurements: tuple[Measurement, ...] = ()

    def clean_for(self, since: float) -> float:
        """Seconds without a breach until this beat, counted from ``since`` at the earliest."""
        return 0.0 if self.clean_since is None else max(0.0, self.at - max(since, self.clean_since))
