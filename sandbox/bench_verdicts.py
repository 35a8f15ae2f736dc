"""`make bench-verdicts`: how good the verdict on a release is, over thousands of simulated ones, beside two others.

Half of the releases are good, half have a fault that breaks a limit of the plan; each is watched as long as the plan
watches (soak and stabilization, in virtual time), by the product's own observations and judge, by Argo Rollouts' rule
and by Kayenta's judge, on the same series. What counts as bad is told by `sandbox.verdicts.verdict.shows`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from sandbox.verdicts import rivals
from sandbox.verdicts.cost import costs
from sandbox.verdicts.minutes import minutes
from sandbox.verdicts.ours import Watch
from sandbox.verdicts.releases import TRAFFIC, release
from sandbox.verdicts.series import baseline, series
from sandbox.verdicts.verdict import Said, begins, harmed, shows

RELEASES, SEED = 4000, 2026
CHUNK = 14
LEAST_RECALL, LEAST_PRECISION = 0.998, 0.99
OURS, ARGO_0, ARGO_3, KAYENTA = JUDGES = ("ours", "argo_0", "argo_3", "kayenta")
CALLED = {OURS: "ours", ARGO_0: "Argo, failureLimit 0", ARGO_3: "Argo, failureLimit 3", KAYENTA: "Kayenta"}
GOOD = "none"


@dataclass(frozen=True)
class Judged:
    """One release and what became of it. ``fault``: `GOOD` for a good one, there from ``since`` on; ``began``: when it
    broke a limit.
    """

    number: int
    traffic: float
    fault: str
    shown: bool
    since: float
    began: float
    said: dict[str, Said]
    harmed: dict[str, float]

    @property
    def counts(self) -> bool:
        return self.fault == GOOD or self.shown

    def wrong(self, who: str) -> bool:
        """Whether it was found bad while nothing was wrong with it (yet)."""
        at = self.said[who].at
        return at is not None and (self.fault == GOOD or at < self.since)


def judged(seed: int, number: int) -> Judged:
    plan, watch = _plan(), _watched()
    one = release(seed, number, watch)
    steps, stable = series(one, watch), baseline(one)
    told, before = minutes(steps), minutes(stable)
    said = {
        OURS: Watch(one, plan, stable, Random(f"{one.seed}:looks")).verdict(steps),
        ARGO_0: rivals.argo(told, before, plan, 0),
        ARGO_3: rivals.argo(told, before, plan, 3),
        KAYENTA: rivals.kayenta(told, before),
    }
    if one.fault is None:
        return Judged(number, one.traffic, GOOD, False, 0.0, 0.0, said, {})
    return Judged(
        number, one.traffic, one.fault.what, shows(one, steps, plan), one.fault.at, begins(one, plan), said,
        {who: harmed(steps, verdict) for who, verdict in said.items()},
    )  # fmt: skip


@cache
def _plan() -> Plan:
    return load_plan(Path(INCLUDE) / "plans" / "pms.yaml")


def _watched() -> float:
    """Seconds that a release is watched."""
    return _plan().watch.after_switch_seconds + _plan().watch.stabilization_seconds


def figures(found: Sequence[Judged], who: str) -> dict[str, Any]:
    """Of one judge. Seconds are from when the fault broke a limit, and of those releases that were found bad. An alarm
    before there is a fault is a false one, as of a good release.
    """
    bad = [one for one in found if one.shown and not one.wrong(who)]
    good = [one for one in found if one.fault == GOOD]
    caught = [one for one in bad if one.said[who].at is not None]
    wrongly = sum(one.wrong(who) for one in found if one.counts)
    seconds = [max(0.0, (one.said[who].at or 0.0) - one.began) for one in caught]
    return {
        "recall": _share(len(caught), len(bad)),
        "precision": _share(len(caught), len(caught) + wrongly),
        "false_alarms": _share(sum(one.wrong(who) for one in good), len(good)),
        "median_seconds": round(statistics.median(seconds), 2) if seconds else None,
        "worst_seconds": round(max(seconds), 2) if seconds else None,
        "harmed_requests": round(sum(one.harmed[who] for one in bad)),
        "harmed_median": round(statistics.median(one.harmed[who] for one in bad), 1) if bad else None,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 5) if whole else None


def rows(found: Iterable[Judged]) -> list[dict[str, Any]]:
    """The same by fault and traffic, in the order in which they were drawn."""
    cells: dict[tuple[str, float], list[Judged]] = defaultdict(list)
    for one in found:
        cells[one.fault, one.traffic].append(one)
    return [
        {
            "fault": fault, "traffic": traffic, "releases": len(cell), "counted": sum(one.counts for one in cell),
            **{who: figures(cell, who) for who in JUDGES},
        }
        for (fault, traffic), cell in cells.items()
    ]  # fmt: skip


def result(found: Sequence[Judged], seed: int, seconds: float) -> dict[str, Any]:
    hidden = [one for one in found if not one.counts]
    return {
        "releases": len(found), "seed": seed, "seconds": round(seconds, 1), "watched_seconds": _watched(),
        "good": sum(one.fault == GOOD for one in found), "bad": sum(one.shown for one in found),
        "not_shown": {"releases": len(hidden), **{w: sum(o.said[w].at is not None for o in hidden) for w in JUDGES}},
        **{who: figures(found, who) for who in JUDGES},
        "cost": costs(_plan()),
        "rows": rows(found),
        "missed": [_told(one) for one in found if one.shown and one.said[OURS].at is None],
        "false_alarms": [_told(one) for one in found if one.counts and one.wrong(OURS)],
    }  # fmt: skip


def _told(one: Judged) -> dict[str, Any]:
    return {"release": one.number, "traffic": one.traffic, "fault": one.fault, "began": one.began,
            "why": one.said[OURS].why}  # fmt: skip


def bench(home: Path, console: Console, releases: int, processes: int, seed: int) -> bool:
    """Measures, prints tables, writes ``bench-verdicts.json``; True when both aims were met."""
    _plan()  # read once, and now: what it says at the end is of another plan, if somebody has changed the file
    began, found = time.monotonic(), []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn) as pool:  # one that is killed is an error, and no waiting for ever
        for one in pool.map(partial(judged, seed), range(releases), chunksize=CHUNK):
            found.append(one)
            if len(found) % 200 == 0:
                console.print(f"{len(found)} of {releases} releases, {time.monotonic() - began:.0f} s")
    told = result(found, seed, time.monotonic() - began)
    home.mkdir(parents=True, exist_ok=True)
    (home / "bench-verdicts.json").write_text(json.dumps(told, indent=1) + "\n")
    show(console, told)
    return bool((told[OURS]["recall"] or 0) >= LEAST_RECALL and (told[OURS]["precision"] or 0) >= LEAST_PRECISION)


def show(console: Console, told: dict[str, Any]) -> None:
    table = Table("judge", "recall", "precision", "false alarms", "median s", "worst s", "harmed requests")
    for who in JUDGES:
        one = told[who]
        shares = (_percent(one[what]) for what in ("recall", "precision", "false_alarms"))
        table.add_row(CALLED[who], *shares, str(one["median_seconds"]), str(one["worst_seconds"]),
                      f"{one['harmed_requests']:,}")  # fmt: skip
    console.print(table)
    table = Table(
        "fault", *(f"{traffic:g}/s" for traffic in TRAFFIC), title="ours: recall, median seconds, harmed (median)"
    )
    cells = {(row["fault"], row["traffic"]): row for row in told["rows"]}
    for fault in dict.fromkeys(row["fault"] for row in told["rows"]):
        table.add_row(fault, *(_cell(fault, cells.get((fault, traffic))) for traffic in TRAFFIC))
    console.print(table)
    console.print(
        f"{told['good']} good and {told['bad']} bad releases, each watched for {told['watched_seconds']:g} s; "
        f"{told['not_shown']['releases']} faults more broke no limit (too few requests met them, or too late); "
        f"{told['seconds']:.0f} s, seed {told['seed']}"
    )
    for one in told["cost"]:
        console.print(
            f"judging {one['pods']} pods with {one['buckets']} buckets: {one['cpu_ms_per_second']:g} ms of each second "
            f"of one processor, {one['longest_ms']:g} ms in one piece"
        )


def _cell(fault: str, row: dict[str, Any] | None) -> str:
    if row is None or not row["counted"]:
        return ""
    one = row[OURS]
    if fault == GOOD:
        return f"{_percent(1 - one['false_alarms'])} pass"
    seconds = "never" if one["median_seconds"] is None else f"{one['median_seconds']:.3g} s"
    return f"{_percent(one['recall'])}, {seconds}, {one['harmed_median']:.3g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{math.floor(share * 10_000) / 100:g} %"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.bench_verdicts", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"), help="where bench-verdicts.json goes")
    parser.add_argument("--releases", type=int, default=RELEASES, help="how many (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything that is drawn (default: %(default)s)")
    given = parser.parse_args(argv)
    return 0 if bench(given.home, Console(), given.releases, given.processes, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
