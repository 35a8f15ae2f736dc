"""The control group that holds a cluster's pods, in every hierarchy of the machine (versions 1 and 2)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sandbox.settings import SandboxError

MOUNTS = Path("/proc/self/mounts")
ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpuset", "cpu", "memory", "pids")
"""Without these a kubelet on version 2 refuses the group."""
GONE_SECONDS = 10


def create(name: str) -> None:
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
        # Next to version 1 there may be a hierarchy of version 2 as well, which then has no say.
        if hierarchy == ROOT and (hierarchy / "cgroup.controllers").exists():
            _hand_down(hierarchy, hierarchy / name)


def _hand_down(root: Path, group: Path) -> None:
    """Version 2 gives a group only the controllers that its parent hands down."""
    offered = set((root / "cgroup.controllers").read_text().split())
    if missing := set(NEEDED) - offered:
        raise SandboxError(f"the control groups of this machine have no {', '.join(sorted(missing))} controller")
    for folder in (root, group):
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in NEEDED))


def remove(name: str) -> None:
    """Remove the group and all below it; processes that are just ending may hold it for a moment."""
    deadline = time.monotonic() + GONE_SECONDS
    while remains(name):
        for folder in _folders(name):
            try:
                folder.rmdir()
            except OSError:
                continue
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def remains(name: str) -> list[str]:
    """The group's folders that are still there."""
    return [str(folder) for folder in _folders(name)]


def _folders(name: str) -> list[Path]:
    """Deepest first."""
    return [Path(folder) for hierarchy in hierarchies() for folder, _, _ in os.walk(hierarchy / name, topdown=False)]


def hierarchies() -> list[Path]:
    """Where control groups are mounted."""
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    # The kernel writes a space as \040.
    return [Path(target.replace(r"\040", " ")) for _, target, kind, *_ in mounts if kind in {"cgroup", "cgroup2"}]
