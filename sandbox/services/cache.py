"""Data folders that take long to make and are the same every time, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT = 2
"""Folders kept of a kind: today's, and that of the branch next door."""


def root() -> Path:
    """The folder of all cached data, closed to others."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "pms-sandbox"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def key_of(parts: Iterable[str | Path]) -> str:
    """A hash of texts and of files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:20]


def obtain(kind: str, key: str, target: Path, make: Callable[[Path], None]) -> bool:
    """Put the folder `kind`-`key` at `target`, made by `make(folder)` when it is not cached; True if it was.

    Two that start together may both make it: each works in a folder of its own, and the first to rename it wins.
    """
    cached = root() / f"{kind}-{key}"
    hit = cached.is_dir()
    if not hit:
        draft = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=root()))
        try:
            make(draft)
            os.rename(draft, cached)
        except OSError:
            if not cached.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    os.utime(cached)
    _copy(cached, target)
    _prune(kind)
    return hit


def _copy(source: Path, target: Path) -> None:
    """cp, for it shares blocks where the file system can, and is quicker than shutil where it cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def _prune(kind: str) -> None:
    folders = sorted(root().glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in folders[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
