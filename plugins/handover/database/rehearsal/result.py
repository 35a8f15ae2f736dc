"""What a rehearsal has seen, and what is wrong with it: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from handover.models.evidence import Evidence, Frozen, Measurement, failed, passed

if TYPE_CHECKING:
    from handover.plan.rehearsal import RehearsalRules

Way = Literal["forward", "reverse", "forward again"]
StallOf = Literal["reads", "writes", "writes of the same rows"]
SHARE, ACCESS_EXCLUSIVE = "ShareLock", "AccessExclusiveLock"
HINDERING = (SHARE, "ShareRowExclusiveLock", "ExclusiveLock", ACCESS_EXCLUSIVE)
"""Locks on a table that somebody who writes, or also reads, has to wait for; weakest first."""
MOST = 50
"""Locks, stalls and tables of a script that are measurements: a table may have thousands of partitions. What the plan
does not allow is told of all."""
SOURCE = "rehearsal"
REHEARSAL_SECONDS = "rehearsal_seconds"


class LockHeld(Frozen):
    """The longest time for which a lock was held, in seconds; at most, as samples can tell. ``waiting``: most sessions
    that waited at once for a lock on this table.
    """

    table: str
    mode: str
    seconds: float
    waiting: int = 0

    @property
    def hinders(self) -> bool:
        return self.mode in HINDERING


class TableChange(Frozen):
    """What a script did to the rows of a table that was there before. ``rewritten``: PostgreSQL wrote all of it anew,
    ``rows`` of it.
    """

    table: str
    rewritten: bool = False
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class Stall(Frozen):
    """The longest that a client had to wait to read, or to write, in seconds. ``measured``: by a client; else it is as
    long as the lock was held.
    """

    table: str
    what: StallOf
    seconds: float
    measured: bool = True


class ScriptRun(Frozen):
    """One script on the copy. ``wal_bytes``: written by the whole server meanwhile."""

    name: str
    way: Way
    seconds: float
    wal_bytes: int = 0
    locks: tuple[LockHeld, ...] = ()
    changes: tuple[TableChange, ...] = ()
    stalls: tuple[Stall, ...] = ()

    @property
    def text(self) -> str:
        return self.name if self.way == "forward" else f"{self.name} ({self.way})"


class RehearsalResult(Frozen):
    """All of a rehearsal. ``problems``: why the release must not go out as it is; ``left_out``: what was not tried.

    ``backup``: where the copy comes from; ``age_seconds``: how old that backup was; ``seconds``: all that it took.
    """

    backup: str
    age_seconds: float
    seconds: float = 0.0
    runs: tuple[ScriptRun, ...] = ()
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The migrations that were tried, oldest first."""
        return tuple(run.name for run in self.runs if run.way == "forward")


def too_long(run: ScriptRun, rules: RehearsalRules) -> list[str]:
    """What of a script the plan does not allow."""
    found = [
        f"{run.text}: {lock.mode} on {lock.table} would be held {lock.seconds:.2f} s,"
        f" {rules.max_lock_seconds:g} s are allowed"
        for lock in run.locks
        if lock.hinders and lock.seconds > rules.max_lock_seconds
    ]
    return found + [
        f"{run.text}: {stall.what} of {stall.table} would stall {stall.seconds:.2f} s,"
        f" {rules.max_stall_seconds:g} s are allowed"
        for stall in run.stalls
        if stall.seconds > rules.max_stall_seconds
    ]


def evidence(check: str, result: RehearsalResult, rules: RehearsalRules) -> Evidence:
    """Passes when nothing is against it; says what was left out either way."""
    problems = [*result.problems, *(one for run in result.runs for one in too_long(run, rules))]
    said = "; ".join(problems) or _summary(result)
    if result.left_out:
        said += f"; left out: {', '.join(result.left_out)}"
    return (failed if problems else passed)(check, said, *measurements(result))


def _summary(result: RehearsalResult) -> str:
    if not result.names:
        return "nothing is pending on the copy"
    locks = [lock for run in result.runs for lock in run.locks if lock.hinders]
    longest = max(locks, key=lambda lock: lock.seconds, default=None)
    held = f"the longest lock was {longest.mode} on {longest.table}, {longest.seconds:.2f} s" if longest else "no lock"
    ways = " and ".join(dict.fromkeys(run.way for run in result.runs))
    return f"{', '.join(result.names)}: {ways} in {result.seconds:.1f} s; {held}"


def measurements(result: RehearsalResult) -> tuple[Measurement, ...]:
    return (
        Measurement(what=REHEARSAL_SECONDS, value=round(result.seconds, 3), unit="s", source=SOURCE),
        Measurement(what="rehearsed_backup_age_seconds", value=round(result.age_seconds), unit="s", source=SOURCE),
        *(measured for run in result.runs for measured in _of(run)),
    )


def _of(run: ScriptRun) -> Iterator[Measurement]:
    values: list[tuple[str, float, str]] = [("seconds", run.seconds, "s"), ("WAL bytes", run.wal_bytes, "B")]
    locks = sorted(run.locks, key=lambda lock: not lock.hinders)[:MOST]
    values += [(f"{lock.mode} on {lock.table}", lock.seconds, "s") for lock in locks]
    values += [(f"most waiting for {lock.table}", lock.waiting, "") for lock in locks if lock.waiting]
    values += [(f"stall of {stall.what} of {stall.table}", stall.seconds, "s") for stall in run.stalls[:MOST]]
    for change in run.changes[:MOST]:
        values += [(f"rows of {change.table} rewritten", change.rows, "")] if change.rewritten else []
        values += [
            (f"rows of {change.table} {what}", number, "")
            for what in ("inserted", "updated", "deleted")
            if (number := getattr(change, what))
        ]
    for what, value, unit in values:
        yield Measurement(what=f"{run.text}: {what}", value=round(value, 3), unit=unit, source=SOURCE)
