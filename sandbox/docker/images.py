"""Stand-ins for the official images that docker-compose.yaml and the Dockerfile name, under the very same names."""

from __future__ import annotations

import os

from sandbox.docker import roots
from sandbox.docker.host import DockerHost

_PATH = f"{roots.POSTGRES_PROGRAMS}:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
_ROOT = "debian-root"
IMAGES = {
    "python:3.13-slim-trixie": f'FROM {_ROOT}\nENV PATH={_PATH} PIP_CERT={roots.CERTIFICATES}\nCMD ["python3"]\n',
    "redis:8": f'FROM {_ROOT}\nVOLUME /data\nWORKDIR /data\nUSER redis\nEXPOSE 6379\nCMD ["redis-server"]\n',
    "postgres:18": (
        f"FROM {_ROOT}\nENV PATH={_PATH}\nVOLUME /var/lib/postgresql\nSTOPSIGNAL SIGINT\nEXPOSE 5432\n"
        'ENTRYPOINT ["postgres-entrypoint.sh"]\nCMD ["postgres"]\n'
    ),
}
"""Name to the Dockerfile; each is the same file system, and says how it is to be run."""
PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
"""Taken over from this machine's environment, for `pip install` finds packages in the same way as here."""


def provide(host: DockerHost) -> None:
    """Make all of them."""
    archive = roots.image_archive(host.folder / "image", host.folder / "mmdebstrap.log")
    host.run("docker", "import", "-", _ROOT, stdin=archive)
    settings = "".join(f"ENV {name}={os.environ[name]}\n" for name in PIP_SETTINGS if name in os.environ)
    for name, dockerfile in IMAGES.items():
        added = settings if name.startswith("python:") else ""
        host.run("docker", "build", "--quiet", "--tag", name, "-", stdin=dockerfile + added)
