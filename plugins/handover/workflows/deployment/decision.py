"""Proceed or roll back, from the evidence of a phase. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from handover.models.evidence import Evidence


@dataclass(frozen=True)
class PhaseDecision:
    proceed: bool
    reasons: list[str]


def decide(evidence: Mapping[str, Evidence | None]) -> PhaseDecision:
    """``evidence`` by task id, None where a task left none. Proceeds only if every single one is there and passed."""
    if not evidence:
        return PhaseDecision(False, ["no evidence at all; no data is never a pass"])
    against = [
        f"{_short(task)}: " + (f"{found.verdict}: {found.reason}" if found else "no evidence (failed or never ran)")
        for task, found in evidence.items()
        if found is None or not found.passed
    ]
    if against:
        return PhaseDecision(False, against)
    return PhaseDecision(True, [f"{_short(task)}: {found.reason}" for task, found in evidence.items() if found])


def _short(task_id: str) -> str:
    return task_id.rpartition(".")[2]
