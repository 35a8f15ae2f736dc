"""Requests of ours and the kubelet's among those that a pod counts, where none of its labels tells them apart. Pure."""

from __future__ import annotations

MOST_OWED = 20.0
"""Requests of ours and the kubelet's that one pod may not have counted yet."""
SURE = 40.0
"""After so many of them it shows whether a pod counts them at all."""


class Besides:
    """Of one pod. Requests come when they come: what is owed and not counted yet may be counted at the next looks."""

    def __init__(self) -> None:
        self._owed, self._sent, self._counted = 0.0, 0.0, 0.0
        self._counts_them = True

    def sent(self, number: float) -> None:
        """So many that were answered well."""
        self._owed = min(MOST_OWED, self._owed + number)
        self._sent += number

    def take(self, good: float) -> float:
        """How many of the good answers that the pod has counted since the last look were to these requests. A pod that
        has counted fewer than half of them in all does not count them: then all that it counts is clients'.
        """
        self._counted += good
        self._counts_them = self._counts_them and not self._counted < self._sent / 2 > SURE / 2
        taken = min(self._owed, good) if self._counts_them else 0.0
        self._owed -= taken
        return taken
