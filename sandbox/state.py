"""Who runs the sandbox of a home folder, and the folder itself: what is in it, and how it is cleared away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from sandbox import endpoints
from sandbox.processes import Process, alive, kill_sessions
from sandbox.settings import SandboxError

RUN = "run"
"""Everything but endpoints.json lies below this folder of home."""
STATE = "sandbox.json"
"""In the run folder. Its presence says that the folder is ours and may be removed."""
LOCK = "lock"


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for another that was later given its number."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        with contextlib.suppress(psutil.Error):
            return cls(pid, psutil.Process(pid).create_time())
        return None

    @property
    def alive(self) -> bool:
        return alive(self.pid, self.created)


@dataclass(frozen=True)
class State:
    """The process that runs a sandbox, and those it started; each of these leads a session."""

    owner: Identity
    processes: dict[str, Identity]

    @classmethod
    def read(cls, home: Path) -> State | None:
        """None when there is nothing, or nothing that can be read."""
        try:
            data = json.loads((home / RUN / STATE).read_text())
            return cls(Identity(*data["owner"]), {name: Identity(*who) for name, who in data["processes"].items()})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def write(home: Path, processes: Iterable[Process]) -> None:
    """Note who we are and what we have started so far."""
    owner = Identity.of(os.getpid())
    assert owner is not None
    started = {process.name: Identity.of(process.pid) for process in processes}
    data = {
        "owner": [owner.pid, owner.created],
        "processes": {name: [who.pid, who.created] for name, who in started.items() if who},
    }
    draft = home / RUN / f"{STATE}.new"
    draft.write_text(json.dumps(data))
    os.replace(draft, home / RUN / STATE)


def clear(home: Path) -> None:
    """End and remove what a sandbox that died without a word has left. Raises SandboxError for a folder not ours."""
    run = home / RUN
    if not run.exists():
        return
    if not (run / STATE).exists():
        raise SandboxError(f"{run} was not made by a sandbox; choose another home, or remove it")
    if state := State.read(home):
        kill_sessions(who.pid for who in state.processes.values() if who.alive)
    remove(home)


def remove(home: Path, *, keep_logs: bool = False) -> None:
    """Remove the sandbox's files; `demo.json`, `bench.json` and whatever else lies in home stay."""
    (home / endpoints.FILE).unlink(missing_ok=True)
    run = home / RUN
    kept = {STATE, "logs"} if keep_logs else set()
    if run.is_dir():
        for entry in run.iterdir():
            if entry.name not in kept:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if not kept:
            run.rmdir()


def remove_if_empty(home: Path) -> None:
    with contextlib.suppress(OSError):
        home.rmdir()
