"""What takes long to make, made once: folders in the user's cache folder, named after all that shapes them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.settings import FileLock

KEPT = 2
"""Folders kept of a kind: today's, and that of the branch next door."""
LOOK_SECONDS = 0.5
Tell = Callable[[str], None]
"""Given a line of progress now and then."""


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


def folder_of(kind: str, key: str) -> Path:
    """Where the folder `kind`-`key` is, or would be."""
    return root() / f"{kind}-{key}"


def keep(kind: str, key: str, make: Callable[[Path], None], tell: Tell = lambda _: None) -> Path:
    """The folder `kind`-`key`, filled by `make(folder)` when it is not there; a second maker waits for the first.

    Nobody may change what is in it.
    """
    folder = folder_of(kind, key)
    if not folder.is_dir():
        with _alone(folder.name, tell):
            if not folder.is_dir():  # somebody else may have made it while we waited
                _make(kind, folder, make, tell)
    os.utime(folder)
    _prune(kind)
    return folder


def obtain(kind: str, key: str, target: Path, make: Callable[[Path], None]) -> bool:
    """Put a copy of what `keep` gives at `target`; True if it was there already."""
    hit = folder_of(kind, key).is_dir()
    _copy(keep(kind, key, make), target)
    return hit


def _make(kind: str, folder: Path, make: Callable[[Path], None], tell: Tell) -> None:
    begin = time.monotonic()
    draft = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=folder.parent))
    try:
        make(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    tell(f"{kind}: made in {time.monotonic() - begin:.0f} s")


@contextmanager
def _alone(name: str, tell: Tell) -> Iterator[None]:
    path, told = root() / f"{name}.lock", False
    while (lock := FileLock.take(path)) is None:
        if not told:
            tell(f"{name} is being made by another process: waiting for it")
            told = True
        time.sleep(LOOK_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _copy(source: Path, target: Path) -> None:
    """cp, for it shares blocks where the file system can, and is quicker than shutil where it cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def _prune(kind: str) -> None:
    """Remove folders that nobody used lately; the locks lie beside them."""
    folders = [path for path in root().glob(f"{kind}-*") if path.is_dir()]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
