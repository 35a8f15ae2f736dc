"""What the end of a deployment tells those who come after it. No I/O here."""

from __future__ import annotations

from handover.models.deployment import Status
from handover.models.evidence import Frozen

ENDED_KEY = "ended"
"""XCom key of the `Ended` that a follow-up run is about; the task that leaves it is `ENDED_TASK`."""
ENDED_TASK = "deployment_ended"


class Ended(Frozen):
    """How a deployment ended, as the event of its asset carries it. ``at``: seconds since the epoch."""

    deployment: str
    version: str
    previous_version: str
    outcome: Status
    at: float
    incidents: int = 0
    moved: bool = True
    """Whether anything that clients depend on had changed."""

    @property
    def rolled_back(self) -> bool:
        return self.outcome is Status.ROLLED_BACK

    @property
    def troubled(self) -> bool:
        """Whether there is anything to analyse: an incident, or any end but a success that clients could see."""
        return self.incidents > 0 or (self.moved and self.outcome is not Status.SUCCEEDED)
