"""The one image that a node needs before it can run any pod."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from sandbox.kubernetes.config import PAUSE

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call the processors that Linux calls otherwise."""


def write_pause(program: Path, archive: Path) -> None:
    """A docker-archive of one static program."""
    layer = _tar({"pause": (program.read_bytes(), 0o755)})
    image = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    files = {"config.json": image, "manifest.json": manifest}
    content = {name: (json.dumps(value).encode(), 0o644) for name, value in files.items()}
    archive.write_bytes(_tar({**content, "layer.tar": (layer, 0o644)}))


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
