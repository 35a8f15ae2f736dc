"""What every part of `make bench-database` is given, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.bench_database.postgres import Pair

Measured = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """``gigabytes``: how much a part may write; every part scales by it, and says what it left out.

    ``say``: a line for the person who waits.
    """

    home: Path
    servers: Pair
    gigabytes: float
    say: Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """A line of the table: what it is, what was measured, what was aimed at; ``met`` None: there is no aim."""

    what: str
    measured: str
    aim: str = ""
    met: bool | None = None


@dataclass
class Part:
    """What a part found. ``figures`` go to the top of the file, ``detail`` below the part's name."""

    figures: dict[str, float | None]
    lines: list[Line] = field(default_factory=list)
    detail: Measured = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return all(line.met is not False for line in self.lines)


class Stopwatch:
    """Seconds of a block that has ended."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    watch, begin = Stopwatch(), time.monotonic()
    try:
        yield watch
    finally:
        watch.seconds = time.monotonic() - begin
