"""kill -9 at every step of a work, and what its next try makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handover.database.rehearsal import contents
from sandbox.database_faults import found
from sandbox.database_faults.found import Found
from sandbox.database_faults.place import Place, World
from sandbox.database_faults.works import Seen, Work
from sandbox.settings import REPOSITORY

Chosen = Callable[[int], Iterable[int]]
"""Given the number of steps, those that are tried."""
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a try ended: by a signal (negative) or with a code; after which steps; with which failure."""

    ended: int
    steps: tuple[str, ...] = ()
    failure: str = ""


class Processes:
    """Where tries are done, see `sandbox.database_faults.killed`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def try_it(self, work: str, world: World, at: int | None = None) -> Ended:
        """To its end; ``at``: the step that it is killed at."""
        self.begin(work, world, () if at is None else (at,), signal.SIGKILL)
        return self.end()

    def begin(self, work: str, world: World, at: Collection[int], number: signal.Signals) -> int:
        """Gives the number of the process; ``at``: the steps at which it gets a signal."""
        asked = {"work": work, "world": world.told(), "at": tuple(at), "signal": number}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._said()["process"])

    def end(self) -> Ended:
        """Of the one that has begun; waits for it."""
        said = self._said()
        return Ended(said["ended"], tuple(said.get("steps", ())), said.get("failure", ""))

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks tries has ended"
        return dict(json.loads(line))


@contextmanager
def processes() -> Iterator[Processes]:
    path = os.pathsep.join((str(REPOSITORY / "plugins"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")))
    argv = [sys.executable, "-m", "sandbox.database_faults.killed"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(REPOSITORY),
        env=os.environ | {"PYTHONPATH": path},
    ) as process:  # fmt: skip
        try:
            yield Processes(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def killed_at_every_step(
    place: Place, tries: Processes, work: Work, chosen: Chosen = range, say: Callable[[str], None] = lambda _: None
) -> Found:
    """Each step on a database of its own: killed there, run again, and compared with what an undisturbed run leaves."""
    with place.world() as template:
        work.begin(template)
        with place.world(template.database) as world:
            whole = tries.try_it(work.name, world)
            expected = work.seen(world)
            assert not (whole.failure or work.wrong(world)), whole.failure or work.wrong(world)
        wrongs: dict[int, list[str]] = {}
        for at in chosen(len(whole.steps)):
            with place.world(template.database) as world:
                if (wrong := _killed(tries, work, world, at, expected)) is not None:
                    wrongs[at] = [f"{at}, {whole.steps[at]}: {one}" for one in wrong]
            say(f"{work.name}: {len(wrongs)} of {len(whole.steps)} steps")
    said = "the next try leaves what an undisturbed one does"
    return found.judged("kill -9", f"{work.name}, each of {len(whole.steps)} steps", said, list(wrongs.values()),
                        steps=whole.steps, tried=sorted(wrongs))  # fmt: skip


def _killed(tries: Processes, work: Work, world: World, at: int, expected: Seen) -> list[str] | None:
    """What is wrong after the next try; None: it came to its end before that step, as threads may."""
    first = tries.try_it(work.name, world, at)
    if first.ended != KILLED:
        return [first.failure] if first.failure else None
    again = tries.try_it(work.name, world)
    if again.failure:
        return [again.failure]
    return [*differences(expected, work.seen(world)), *work.wrong(world)]


def differences(expected: Seen, seen: Seen) -> list[str]:
    wrong = contents.differences(expected.contents, seen.contents)
    return wrong + [
        f"{name} is {seen.facts.get(name)} instead of {value}"
        for name, value in expected.facts.items()
        if seen.facts.get(name) != value
    ]
