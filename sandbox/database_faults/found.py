"""What a fault came to: the lines of the table, and of ``faults-database.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

STALL_MS = 150.0
"""No client may wait longer for what is done to the database, whoever holds what."""
SEEN_SECONDS = 1.0


@dataclass(frozen=True)
class Found:
    """One fault in one kind of step. ``tried``: how often; ``wrong``: what was not as it has to be, each with its step.

    ``stall_ms``: the worst of any client meanwhile, None where no client was measured; ``noise_ms``: the worst of
    those whom nobody was in the way of, which is this machine's; ``aim_ms``: the most that may be, None where the work
    itself is long.
    """

    fault: str
    step: str
    tried: int
    outcome: str
    wrong: tuple[str, ...] = ()
    stall_ms: float | None = None
    noise_ms: float | None = None
    aim_ms: float | None = None
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """A stall within the machine's own noise proves nothing against the code."""
        if self.stall_ms is None or self.aim_ms is None:
            return self.tried > 0 and not self.wrong
        return not self.wrong and self.stall_ms <= max(self.aim_ms, self.noise_ms or 0.0)


def judged(fault: str, step: str, good: str, wrongs: Sequence[Sequence[str]], **more: object) -> Found:
    """Of tries, each with what was wrong with it."""
    bad = tuple(one for wrong in wrongs for one in wrong)
    said = good if not bad else f"{sum(bool(wrong) for wrong in wrongs)} of {len(wrongs)} otherwise"
    return Found(fault, step, len(wrongs), said, bad, detail=dict(more))
