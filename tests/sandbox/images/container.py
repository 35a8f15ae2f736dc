"""What a container runtime does with an image, as far as a command needs it: unpack it and change the root folder."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.images import Image
from sandbox.images.base import USER


def layers_of(image: Image) -> list[Path]:
    """The blobs of the image's layers, lowest first."""
    manifest = json.loads(image.blob(image.digest).read_bytes())
    return [image.blob(layer["digest"]) for layer in manifest["layers"]]


def unpack(layer: Path, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xzf", str(layer), "-C", str(root)], check=True)
    root.chmod(0o755)


@dataclass(frozen=True)
class Ended:
    code: int
    output: str


@dataclass(frozen=True)
class Container:
    """Runs commands of a release as its user, in the unpacked root."""

    root: Path

    def run(self, tag: str, *command: str, **env: str) -> Ended:
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": "/app:/opt/python", "HOME": "/home/pms",
            "PMS_VERSION": tag, **env,
        }  # fmt: skip
        inside = ["sh", "-c", f'cd /releases/{tag}/app && exec "$@"', "sh", *command]
        given = [f"{key}={value}" for key, value in variables.items()]
        argv = ["chroot", f"--userspec={USER}:{USER}", str(self.root), "/usr/bin/env", "-i", *given, *inside]
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120
        )
        return Ended(done.returncode, done.stdout)

    def prisma(self, tag: str, *words: str, **env: str) -> Ended:
        """`npx prisma migrate ...` of a release."""
        return self.run(tag, "npx", "prisma", "migrate", *words, **env)
