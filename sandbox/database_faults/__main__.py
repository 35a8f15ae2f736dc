"""``python -m sandbox.database_faults``: hurts the database's work in every way, prints one table, writes
``faults-database.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox.bench_database.backup import store
from sandbox.bench_database.bench import Bench
from sandbox.bench_database.postgres import PASSWORD, Pair, pair
from sandbox.database_faults import damaged, dead, failing, failover, killing, lag, locks
from sandbox.database_faults.found import Found
from sandbox.database_faults.killing import Processes, processes
from sandbox.database_faults.place import BUCKET, Place
from sandbox.database_faults.works import ALL, WORKS, Work
from sandbox.services.postgres import bin_dir

FILE = "faults-database.json"
FAULTS = ("failing", "killed", "dead", "locks", "damaged", "lag", "failover")
LOCKED = ("migration", "reverse", "expand", "batches", "cutover", "contract", "repair")


@dataclass(frozen=True)
class Around:
    """What every fault is given. ``works``: those that are killed; ``every``: each so many-th step is tried, from the
    step ``first`` on.
    """

    home: Path
    servers: Pair
    place: Place
    tries: Processes
    works: Sequence[Work]
    every: int
    first: int
    say: Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything came out as it has to, else 1."""
    given = _arguments(argv)
    console = Console()
    given.home.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{bin_dir()}{os.pathsep}{os.environ['PATH']}"
    found: dict[str, list[Found]] = {}
    works = [WORKS[name] for name in given.works]
    first = given.every // 2 if given.first is None else given.first
    with _around(
        given.home, works, given.every, first, lambda text: console.print(f"[dim]{text}[/dim]", highlight=False)
    ) as around:
        for name in given.only:
            found[name] = []
            for one in _tried(name, around):
                found[name].append(one)
                _write(given.home / FILE, given.every, found)
    console.print(_table(found))
    return 0 if all(one.good for those in found.values() for one in those) else 1


def _tried(name: str, around: Around) -> Iterator[Found]:
    place, tries, say = around.place, around.tries, around.say
    if name == "failing":
        yield from failing.failing(place, say, around.every)
    if name == "killed":
        chosen = partial(_each, around.every, around.first)
        for work in around.works:
            yield killing.killed_at_every_step(place, tries, work, chosen, say)
    if name == "dead":
        yield from dead.dead(place, tries, say)
    if name == "locks":
        yield from locks.held(place, tries, [ALL[one] for one in LOCKED], say=say)
    if name == "damaged":
        yield from damaged.damaged(place, max(3, 40 // around.every), say=say)
    if name == "lag":
        yield from lag.faults(around.servers, say)
    if name == "failover":
        moments = failover.MOMENTS if around.every == 1 else failover.MOMENTS[1:2]
        there = partial(failover.owned, elsewhere=place.elsewhere, s3=place.s3, password=PASSWORD)
        yield from failover.failovers(around.home, there, tries, moments, say)


def _each(every: int, first: int, steps: int) -> range:
    return range(first, steps, every)


@contextmanager
def _around(home: Path, works: Sequence[Work], every: int, first: int, say: Callable[[str], None]) -> Iterator[Around]:
    with pair(home) as servers, pair(home) as elsewhere, store(Bench(home, servers, 1.0, say)) as client:
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        place = failover.owned(servers, elsewhere.primary, client.meta.endpoint_url, PASSWORD)
        with processes() as tries:
            yield Around(home, servers, place, tries, works, every, first, say)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.database_faults", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"), help=f"where {FILE} goes")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each N-th step (default: all of them)")
    parser.add_argument(
        "--first", type=int, metavar="N", help="the first step to be killed at, so that several may share the work"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(FAULTS), metavar="FAULT,...",
        help=f"some of {', '.join(FAULTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--works", type=lambda text: text.split(","), default=list(WORKS), metavar="WORK,...",
        help=f"of those that are killed: {', '.join(WORKS)}",
    )  # fmt: skip
    given = parser.parse_args(argv)
    for option, asked, there in (("--only", given.only, FAULTS), ("--works", given.works, WORKS)):
        if unknown := set(asked) - set(there):
            parser.error(f"{option}: there is no {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    if given.every < 1 or (given.first or 0) < 0:
        parser.error("--every: 1 or more; --first: 0 or more")
    return given


def _write(file: Path, every: int, found: dict[str, list[Found]]) -> None:
    """After each fault; what an earlier run has found of others stays, with the steps that it tried."""
    told = json.loads(file.read_text()) if file.exists() else {}
    for name, those in found.items():
        told[name] = {"every": every, "found": [asdict(one) | {"good": one.good} for one in those]}
    told["good"] = all(one["good"] for part in told.values() if isinstance(part, dict) for one in part["found"])
    file.write_text(json.dumps(told, indent=1) + "\n")


def _table(found: dict[str, list[Found]]) -> Table:
    table = Table("fault", "step", "tried", "outcome", "worst stall ms", "as it has to be")
    for those in found.values():
        for one in those:
            stall = "" if one.stall_ms is None else f"{one.stall_ms:.0f} (others {one.noise_ms or 0:.0f})"
            told = "\n".join((one.outcome, *one.wrong[:3]))
            good = "[green]yes[/green]" if one.good else "[red]no[/red]"
            table.add_row(one.fault, one.step, str(one.tried), told, stall, good)
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
