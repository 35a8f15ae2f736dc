"""PostgreSQL's own programs: which one fits the server, and what it can compress with."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from handover.adapters.children import harmless
from handover.database import packing

USUAL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
PROBE_SECONDS = 10
METHODS = {"zstd": "zstd:1", "lz4": "lz4", "gzip": "gzip:1"}
"""What to ask pg_dump for, best first; measured on a 2.6 GB database (wall seconds): uncompressed 13.7, lz4 13.6,
zstd:1 14.6, gzip:1 20.6, gzip's default level 37.5."""
QUICK = ("zstd", "lz4")
"""Methods that hold up no dump."""


@dataclass(frozen=True)
class Compression:
    """``switch``: what pg_dump's ``--compress`` gets; ``packed``: what it gives is compressed by us (`packing`)."""

    switch: str
    packed: bool = False

    def __str__(self) -> str:
        return f"--compress={self.switch}{f', {packing.METHOD} by us' if self.packed else ''}"


class ToolMissing(Exception):
    """No program on this machine fits the server."""


def program(name: str, server_major: int) -> str:
    """Path of ``pg_dump`` or ``pg_restore`` for a server of this major version: its own one or the next newer.

    A pg_dump refuses servers newer than itself. Raises `ToolMissing`.
    """
    found = _installed(name, os.environ.get("PATH", ""))
    fitting = [(major, path) for path, major in found if major >= server_major]
    if not fitting:
        seen = ", ".join(f"{path} is {major}" for path, major in found) or "there is none"
        raise ToolMissing(f"the server is PostgreSQL {server_major} and needs a {name} at least as new: {seen}")
    return min(fitting, key=lambda pair: pair[0])[1]


@lru_cache
def _installed(name: str, path: str) -> tuple[tuple[str, int], ...]:
    """Every such program on the path and in the usual folders, with its major version."""
    folders = [Path(folder) for folder in path.split(os.pathsep) if folder]
    folders += [folder for pattern in USUAL_FOLDERS for folder in sorted(Path("/").glob(pattern[1:]))]
    found: dict[str, int] = {}
    for folder in folders:
        file = folder / name
        if str(file) not in found and os.access(file, os.X_OK) and (major := _major(str(file))):
            found[str(file)] = major
    return tuple(found.items())


def _major(file: str) -> int | None:
    try:
        said = subprocess.run(
            [file, "--version"], check=False, capture_output=True, text=True, timeout=PROBE_SECONDS, env=harmless()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(number.group(1)) if number else None


@lru_cache
def compression(pg_dump: str, wanted: str) -> Compression:
    """How a dump is compressed. ``auto`` is the first of `QUICK` that this pg_dump was built with, or else we do it, as
    for a ``zstd`` that it was built without.

    Raises `ToolMissing` when it cannot do what the plan asks for.
    """
    if wanted == "none":
        return Compression("0")
    for method in QUICK if wanted == "auto" else (wanted,):
        for switch in (METHODS[method], "1") if method == "gzip" else (METHODS[method],):
            if _compresses(pg_dump, switch):
                return Compression(switch)
    if wanted in ("auto", "zstd"):
        return Compression("0", packed=True)
    raise ToolMissing(f"{pg_dump} was built without {wanted}")


def _compresses(pg_dump: str, value: str) -> bool:
    """Asks for it with a server that does not exist: pg_dump refuses an unknown method before it connects."""
    said = subprocess.run(
        [pg_dump, "--format=custom", f"--compress={value}", "--host=/nonexistent", "--no-password"],
        check=False, capture_output=True, text=True, timeout=PROBE_SECONDS, env=harmless() | {"LC_ALL": "C"},
    )  # fmt: skip
    return "compress" not in said.stderr
