"""What is said of something that is on record already, and is not what the record has: then one of both is not true.
The first one stays, since nothing is ever changed, and that it was contradicted is put on record beside it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from handover.models.evidence import Verdict
from handover.models.record import (
    SYSTEM,
    Change,
    Check,
    Decision,
    Deployment,
    IncidentEntry,
    Outcome,
    RecordEntry,
    SentMessage,
)
from handover.models.redaction import HIDDEN

KEYS: dict[type[RecordEntry], tuple[str, ...]] = {
    Deployment: ("deployment",),
    Outcome: ("deployment", "run", "status"),
    Check: ("deployment", "run", "step", "try_number"),
    Decision: ("deployment", "run", "step", "question", "at"),
    SentMessage: ("deployment", "run", "step", "channel", "at"),
    IncidentEntry: ("incident", "kind", "at"),
    Change: ("deployment", "revision"),
}
"""What names an entry, as the tables have it. Samples are points of a curve, which nobody decides by."""
TIMES = frozenset({"at", "started_at", "switched_at", "committed_at"})
NOT_COMPARED = TIMES | {"run", "step"}
"""Who writes at once does not know the time that Airflow gives later, and several runs tell of one incident."""
QUESTION, CHOICE = "Is the record true?", "Contradicted"
MAX_SHOWN = 300
"""Characters of each value."""


def contradictions(kept: Iterable[RecordEntry], said: Iterable[RecordEntry]) -> list[Decision]:
    """An entry for each that is said otherwise than it is kept; the same for the same, however often it is said."""
    known = {_key(entry): entry for entry in kept if type(entry) in KEYS}
    found = []
    for entry in said:
        before = known.get(_key(entry)) if type(entry) in KEYS else None
        if before is not None and (differs := list(_differences(before, entry))):
            what = f"{type(entry).__name__.lower()} {entry.step}".strip()
            made = Decision(
                at=_time(entry), question=f"{QUESTION} ({what})", choice=CHOICE, who=SYSTEM, why="; ".join(differs)
            )
            found.append(made.of(entry.deployment, entry.run, entry.step))
    return found


def _key(entry: RecordEntry) -> tuple[Any, ...]:
    values = ((name, getattr(entry, name)) for name in KEYS[type(entry)])
    return type(entry), *(round(value, 4) if name in TIMES else value for name, value in values)


def _differences(kept: RecordEntry, said: RecordEntry) -> Iterator[str]:
    before, now = kept.model_dump(mode="json"), said.model_dump(mode="json")
    for name in ("committed_at",) if isinstance(said, Change) else [one for one in before if one not in NOT_COMPARED]:
        if _nothing_is_known(kept, said) and name in ("reason", "measurements"):
            continue  # why a task failed is known to itself alone
        if not _same(before[name], now[name]):
            yield f"{name}: on record {before[name]!r:.{MAX_SHOWN}}, said {now[name]!r:.{MAX_SHOWN}}"


def _nothing_is_known(kept: RecordEntry, said: RecordEntry) -> bool:
    return isinstance(kept, Check) and isinstance(said, Check) and kept.verdict is said.verdict is Verdict.UNKNOWN


def _same(before: Any, now: Any) -> bool:
    """A process hides the secrets that it knows, and one may know more of them than another."""
    if isinstance(before, str) and isinstance(now, str) and before != now:
        return _hides(before, now) or _hides(now, before)
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_same(before[key], now[key]) for key in before)
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_same, before, now))
    return bool(before == now)


def _hides(text: str, whole: str) -> bool:
    if HIDDEN not in text:
        return False
    head, tail = text.partition(HIDDEN)[0], text.rpartition(HIDDEN)[2]
    return whole.startswith(head) and whole.endswith(tail)


def _time(entry: RecordEntry) -> float:
    return next(float(getattr(entry, name)) for name in ("at", "started_at", "committed_at") if hasattr(entry, name))
