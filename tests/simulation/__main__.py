"""``make simulate``: as many schedules as one likes, from where it stopped; and one of them, call by call.

What is written: ``schedules`` tried, ``seconds`` they took, ``violations`` and ``broken`` (each with the number that
plays it again), and of each mutation of the protocol the number of the schedule that found it. The numbers mean other
schedules when the code has changed; then it begins anew.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.simulation.mutations import MUTATIONS, found_after
from tests.simulation.scenario import Player, numbered

ROOT = Path(__file__).parents[2]
PLAYED = ("plugins", "include/plans", "tests/simulation", "tests/twins")
CHUNK = 500
SAID_EVERY_SECONDS = 10.0
WITHIN = 20_000
"""Schedules in which a mutation has to be found."""


@functools.cache
def player() -> Player:
    """Of this process."""
    return Player()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000_000, metavar="N", help="how many in all (%(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N", help="at a time (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / ".sandbox" / "simulate.json", help="written as it goes on")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="play this schedule alone, and print every call")
    options = parser.parse_args(arguments)
    if options.show is not None:
        return show(options.show)
    return simulate(options.schedules, options.processes, options.out)


def show(number: int) -> int:
    schedule, cast, to_the_end = numbered(player(), number)
    schedule.tell = print
    played = player().play(schedule, cast, to_the_end=to_the_end)
    print(*(str(violation) for violation in played.violations), sep="\n")
    return bool(played.violations)


def simulate(wanted: int, processes: int, out: Path) -> int:
    report = _begun(out)
    before, began, said = report["seconds"], time.monotonic(), 0.0
    with multiprocessing.Pool(processes) as pool:
        if not report["mutations"]:
            report["mutations"] = list(pool.imap_unordered(_mutation, MUTATIONS))
            began = time.monotonic()
        chunks = ((first, min(first + CHUNK, wanted)) for first in range(report["schedules"], wanted, CHUNK))
        for end, broken in pool.imap(_chunk, chunks):
            report["broken"] += broken
            report |= {"schedules": end, "violations": len(report["broken"])}
            report["seconds"] = round(before + time.monotonic() - began, 1)
            _write(out, report)
            if time.monotonic() - said > SAID_EVERY_SECONDS:
                said = time.monotonic()
                _say(report, wanted)
    _write(out, report)
    _say(report, wanted)
    for mutation in report["mutations"]:
        found = mutation["found_after"]
        print(f"  {mutation['name']}: " + (f"found by schedule {found}" if found is not None else "NOT FOUND"))
    for found in report["broken"][:20]:
        print(f"  {found['violation']}: python -m tests.simulation --show {found['number']}")
    return bool(report["violations"]) or any(mutation["found_after"] is None for mutation in report["mutations"])


def _mutation(name: str) -> dict[str, Any]:
    number, violation = found_after(player(), name, WITHIN)
    return {"name": name, "found_after": number if violation else None, "violation": str(violation)}


def _chunk(numbers: tuple[int, int]) -> tuple[int, list[dict[str, Any]]]:
    broken = []
    for number in range(*numbers):
        schedule, cast, to_the_end = numbered(player(), number)
        for violation in player().play(schedule, cast, to_the_end=to_the_end).violations[:1]:
            broken.append({"number": number, "violation": str(violation)})
    return numbers[1], broken


def _begun(out: Path) -> dict[str, Any]:
    code = hashlib.sha256()
    for path in sorted(path for part in PLAYED for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".yaml")):
        code.update(path.read_bytes())
    report: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    if report.get("code") == code.hexdigest():
        print(f"goes on after {report['schedules']} schedules of {out}")
        return report
    return {
        "schedules": 0, "seconds": 0.0, "violations": 0, "mutations": [], "broken": [], "code": code.hexdigest(),
    }  # fmt: skip


def _write(out: Path, report: dict[str, Any]) -> None:
    """Whole or not at all, whenever it is stopped."""
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_suffix(".half")
    half.write_text(json.dumps(report, indent=1))
    half.replace(out)


def _say(report: dict[str, Any], wanted: int) -> None:
    done, seconds = report["schedules"], report["seconds"]
    print(f"{done} of {wanted} schedules in {seconds:.0f} s, {report['violations']} violations", flush=True)


if __name__ == "__main__":
    sys.exit(main())
