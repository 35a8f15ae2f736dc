"""Our rollback beside Argo's, line by line, from what guests saw in each round. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sandbox.cutover import Answer
from sandbox.rounds import spread

WINDOW_SECONDS = 5.0
"""Bad answers are counted for so long after what happened: kept connections may stay on a bad pod for much longer."""


class Who(StrEnum):
    OURS = "ours"
    ARGO = "argo"


class Cause(StrEnum):
    """What happens to the new version while it is watched."""

    FAULT = "fault"
    """Every pod of it answers 500; Argo samples answers as often as our probe."""
    FAULT_EVERY_SECOND = "fault_every_second"
    """The same for Argo alone, which samples answers every second."""
    HAND = "hand"
    """A rollback by the API: ours by a run of the rollback DAG, Argo's of the cluster."""
    NOW = "now"
    """The same for ours alone, by "roll back now"."""
    COMMAND = "command"
    """A rollback by a command line, from the start of its process."""
    SILENCE = "silence"
    """The error tracker answers 503."""


@dataclass(frozen=True)
class Bad:
    """An answer of 500 or more, or none (``kind``). Unix seconds."""

    at: float
    fresh: bool
    kind: str = ""


@dataclass(frozen=True)
class Round:
    """What came of one cause. Seconds since it."""

    who: Who
    cause: Cause
    traffic_back_seconds: float
    """Until the last request was sent that a new connection brought to the new version."""
    decision_seconds: float | None
    requests: int
    failed: int
    bad_on_new_connections: int
    bad_on_kept_connections: int


@dataclass(frozen=True)
class Line:
    """One figure: `value` of the rounds of `cause`; `why_not` explains why ours is the larger one, if it is."""

    name: str
    cause: Cause
    value: str
    why_not: str
    argos: Cause | None = None
    """Of Argo's rounds, if another one."""

    def cause_of(self, who: Who) -> Cause:
        return self.argos or self.cause if who is Who.ARGO else self.cause


SLOW_FAULT = (
    "Argo takes one bad answer of one sample for a breach; ours wants three, and an error rate that is above the limit "
    "for sure, so that one unlucky request does not undo a release."
)
ORCHESTRATED = (
    "The request starts a run of the rollback DAG: a scheduler, a queue and a new process lie between it and the "
    "patch, where Argo's controller waits for nothing but this. Whoever cannot wait takes the command line."
)
CHECKED = (
    "Ours asks what the person may and reads four objects before its one patch; Argo's abort is one patch by whoever "
    "has a kubeconfig."
)
INTERPRETED = (
    "Most of it is the start of Python and its imports, where kubectl is a compiled program; both then send one patch."
)
SILENT = "Ours asks the error tracker every two seconds and Argo every second, so the last answer may be older."
LOST = "None may be lost by either; the events of the round say which was."
LINES = (
    Line("fault_to_traffic_back_seconds", Cause.FAULT, "traffic_back_seconds", SLOW_FAULT),
    Line(
        "fault_to_traffic_back_seconds_argo_every_second",
        Cause.FAULT,
        "traffic_back_seconds",
        SLOW_FAULT,
        Cause.FAULT_EVERY_SECOND,
    ),
    Line("bad_answers_on_new_connections", Cause.FAULT, "bad_on_new_connections", SLOW_FAULT),
    Line("bad_answers_on_kept_connections", Cause.FAULT, "bad_on_kept_connections", SLOW_FAULT),
    Line("by_hand_to_traffic_back_seconds", Cause.HAND, "traffic_back_seconds", ORCHESTRATED),
    Line("now_to_traffic_back_seconds", Cause.NOW, "traffic_back_seconds", CHECKED, Cause.HAND),
    Line("by_command_to_traffic_back_seconds", Cause.COMMAND, "traffic_back_seconds", INTERPRETED),
    Line("source_dead_to_decision_seconds", Cause.SILENCE, "decision_seconds", SILENT),
    Line("source_dead_to_traffic_back_seconds", Cause.SILENCE, "traffic_back_seconds", SILENT),
    *(Line(f"failed_requests_{one.value}", one, "failed", LOST) for one in Cause if one is not Cause.NOW),
    Line("failed_requests_now", Cause.NOW, "failed", LOST, Cause.HAND),
)


def serving(answers: Iterable[Answer], moment: float) -> set[str]:
    """Versions that new connections reached in the second before."""
    return {answer.version for answer in answers if answer.fresh and moment - 1 < answer.began < moment}


def judge(
    who: Who, cause: Cause, moment: float, version: str, *, answers: Iterable[Answer], bad: Sequence[Bad],
    requests: int, decided: float | None = None,
) -> Round:  # fmt: skip
    """What guests saw of one round.

    :param moment: when it happened (Unix seconds), `decided`: when the answer to it was known
    :param version: the new one, from which traffic goes back
    """
    on_new = [answer.began for answer in answers if answer.fresh and answer.version == version]
    wrong = [one for one in bad if not one.kind and moment <= one.at <= moment + WINDOW_SECONDS]
    return Round(
        who=who,
        cause=cause,
        traffic_back_seconds=round(max(0.0, max(on_new, default=moment) - moment), 3),
        decision_seconds=None if decided is None else round(decided - moment, 3),
        requests=requests,
        failed=sum(1 for one in bad if one.kind),
        bad_on_new_connections=sum(1 for one in wrong if one.fresh),
        bad_on_kept_connections=sum(1 for one in wrong if not one.fresh),
    )


def compare(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """For every line both sides' values, how many times Argo's median ours is, and why it is more if it is."""
    found = {}
    for line in LINES:
        ours, argo = (_values(line, who, rounds) for who in Who)
        if ours and argo:
            found[line.name] = _compared(line, ours, argo)
    return found


def _values(line: Line, who: Who, rounds: Sequence[Round]) -> list[float]:
    wanted = [one for one in rounds if one.who is who and one.cause is line.cause_of(who)]
    return [value for one in wanted if (value := getattr(one, line.value)) is not None]


def _compared(line: Line, ours: list[float], argo: list[float]) -> dict[str, Any]:
    mine, other = spread(ours), spread(argo)
    met = mine["median"] <= other["median"]
    return {
        "ours": mine,
        "argo": other,
        "ratio": round(mine["median"] / other["median"], 2) if other["median"] else None,
        "more_by": round(max(0.0, mine["median"] - other["median"]), 3),
        "at_most_argo": met,
        "why_not": "" if met else line.why_not,
    }


def as_json(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    """Every single value."""
    return [asdict(one) for one in rounds]
