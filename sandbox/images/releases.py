"""The images of the hotel's releases, and the one with the tools that examine a release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.hotel import releases as hotel
from sandbox.hotel.build import REPOSITORY, TOOLS, TRIVY, VULNERABILITIES
from sandbox.hotel.releases import MIGRATIONS, RELEASES, Release
from sandbox.images import base, layers, layout
from sandbox.images.layers import Layer
from sandbox.images.layout import Image, Recipe
from sandbox.services import cache
from sandbox.services.cache import Tell
from sandbox.settings import SandboxError

HOTEL = Path(hotel.__file__).parent
OURS = Path(__file__).parent
TOOLS_TAG = "v1"
_PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_PYTHON = {"PYTHONPATH": "/app:/opt/python", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def build(tell: Tell) -> list[Image]:
    """Every image in one OCI layout, made unless cached. Raises SandboxError when a program or the network fails."""
    if missing := base.requirements():
        raise SandboxError("the images cannot be made here:\n  " + "\n  ".join(missing))
    return layout.read(cache.keep("image-layout", _key(), lambda folder: _make(folder, tell), tell))


def _key() -> str:
    ours = [path for path in OURS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    theirs = [path for path in HOTEL.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return cache.key_of([repr(RELEASES), base.LOCK, *sorted(ours), *sorted(theirs)])


def _make(folder: Path, tell: Tell) -> None:
    with ThreadPoolExecutor() as pool:  # both wait for downloads most of the time
        system, prisma = pool.map(lambda make: make(tell), (base.system, base.prisma))
    parts = folder / "parts"
    code = _layer(parts / "code", _code)
    recipes = [_release(release, (system, prisma, code), parts) for release in RELEASES]
    tools = _layer(parts / "tools", _tools)
    recipes.append(
        Recipe(TOOLS, TOOLS_TAG, (system, tools), ("trivy", "--version"), _PATH, f"{base.USER}:{base.USER}", "/")
    )
    layout.write(folder, recipes)
    shutil.rmtree(parts)


def _release(release: Release, below: tuple[Layer, ...], parts: Path) -> Recipe:
    own = _layer(parts / release.tag, lambda tree: _contents(tree, release))
    found = {VULNERABILITIES: ",".join(release.vulnerabilities)} if release.vulnerabilities else {}
    told = {"PMS_VERSION": release.tag, "PMS_FAULT": release.fault, "PMS_BUILD": below[-1].diff_id}
    return Recipe(
        repository=REPOSITORY, tag=release.tag, layers=(*below, own), command=("python3", "-m", "sandbox.hotel"),
        env={**_PATH, **_PYTHON, **told}, user=f"{base.USER}:{base.USER}", workdir="/app", annotations=found,
    )  # fmt: skip


def _layer(folder: Path, fill: Callable[[Path], None]) -> Layer:
    tree = folder / "tree"
    tree.mkdir(parents=True)
    fill(tree)
    return layers.of_tree(tree, folder)


def _code(tree: Path) -> None:
    """What every release shares: the service's code, and the commands of its `npm`."""
    package = tree / "app" / "sandbox"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copytree(HOTEL, package / "hotel", ignore=shutil.ignore_patterns("__pycache__", "prisma", "build.py"))
    _program(OURS / "hotel" / "npm", tree / "usr" / "local" / "bin" / "npm")


def _contents(tree: Path, release: Release) -> None:
    """What is a release's own: its migrations, and its name."""
    app = tree / "app"
    for name in release.migrations:
        shutil.copytree(MIGRATIONS / name, app / "prisma" / "migrations" / name)
    (app / "prisma" / "migrations" / "migration_lock.toml").write_text('provider = "postgresql"\n')
    shutil.copy(OURS / "hotel" / "schema.prisma", app / "prisma")
    shutil.copy(OURS / "hotel" / "prisma.config.ts", app)
    (app / "node_modules").symlink_to("/opt/prisma/node_modules")
    package = {"name": "pms", "version": release.tag.removeprefix("v"), "private": True}
    (app / "package.json").write_text(json.dumps(package, indent=2) + "\n")


def _tools(tree: Path) -> None:
    """The stand-in for Trivy; see sandbox/hotel/trivy.py."""
    _program(TRIVY, tree / "opt" / "release-tools" / "trivy.py")
    _program(OURS / "tools" / "trivy", tree / "usr" / "local" / "bin" / "trivy")


def _program(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)
