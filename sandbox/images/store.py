"""What takes long to make, made once: folders in the user's cache folder, named after all that shapes them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.services import cache
from sandbox.settings import FileLock

Tell = Callable[[str], None]
"""Given a line of progress now and then."""


def obtain(kind: str, key: str, make: Callable[[Path], None], tell: Tell) -> Path:
    """The folder `kind`-`key`, filled by `make(folder)` when it is not there; a second builder waits for the first."""
    folder = cache.root() / f"{kind}-{key}"
    if not folder.is_dir():
        with _alone(folder.name, tell):
            if not folder.is_dir():  # somebody else may have made it while we waited
                _make(kind, folder, make, tell)
    os.utime(folder)
    _prune(kind)
    return folder


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
    path, told = cache.root() / f"{name}.lock", False
    while (lock := FileLock.take(path)) is None:
        if not told:
            tell(f"{name} is being made by another process: waiting for it")
            told = True
        time.sleep(0.5)
    try:
        yield
    finally:
        lock.release()


def _prune(kind: str) -> None:
    """Remove folders that nobody used lately."""
    folders = [path for path in cache.root().glob(f"{kind}-*") if path.is_dir()]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[cache.KEPT :]:
        shutil.rmtree(old, ignore_errors=True)
