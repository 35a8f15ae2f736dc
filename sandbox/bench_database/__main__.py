"""``python -m sandbox.bench_database``: measures part after part, prints one table, writes ``bench-database.json``.

Each part is a module of this package with ``measure(bench) -> Part``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox.bench_database.bench import Bench, Part
from sandbox.bench_database.postgres import pair

PARTS = ("backup", "backfill", "validation", "rehearsal")
FILE = "bench-database.json"
GIGABYTES = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every aim was met, else 1."""
    given = _arguments(argv)
    console = Console()
    given.home.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Part] = {}
    with pair(given.home) as servers:
        for number, name in enumerate(given.only, 1):
            before = f"[dim]{number}/{len(given.only)} {name}:"

            def say(text: str, before: str = before) -> None:
                console.print(f"{before} {text}[/dim]", highlight=False)

            say("begins")
            module = importlib.import_module(f"sandbox.bench_database.{name}")
            parts[name] = module.measure(Bench(given.home, servers, given.gigabytes, say))
            _write(given.home / FILE, given.gigabytes, parts)
    console.print(_table(parts))
    return 0 if all(part.met for part in parts.values()) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.bench_database", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"), help=f"where {FILE} goes")
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="of data (default: %(default)g)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PART,...",
        help=f"some of {', '.join(PARTS)}",
    )  # fmt: skip
    given = parser.parse_args(argv)
    if unknown := set(given.only) - set(PARTS):
        parser.error(f"--only: there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.gigabytes <= 0:
        parser.error("--gigabytes: more than 0")
    return given


def _write(file: Path, gigabytes: float, parts: dict[str, Part]) -> None:
    """After each part: what was measured before a later one fails is there. A part that was not asked for keeps what
    an earlier run of the same size has found."""
    told = json.loads(file.read_text()) if file.exists() else {}
    told = told if told.get("gigabytes") == gigabytes else {}
    told |= {"gigabytes": gigabytes, "processors": os.cpu_count()}
    for name, part in parts.items():
        lines = [vars(line) for line in part.lines]
        told |= {**part.figures, name: {"lines": lines, **part.detail}}
    file.write_text(json.dumps(told, indent=1) + "\n")


def _table(parts: dict[str, Part]) -> Table:
    table = Table("part", "what", "measured", "aim", "met")
    for name, part in parts.items():
        for line in part.lines:
            met = "" if line.met is None else "[green]yes[/green]" if line.met else "[red]no[/red]"
            table.add_row(name, line.what, line.measured, line.aim, met)
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
