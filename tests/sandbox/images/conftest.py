"""The images, the root file system that they make, and a registry of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from sandbox.images import Image, build, requirements
from sandbox.kubernetes import build as programs
from tests.sandbox.hotel.conftest import postgres  # noqa: F401 - a fixture
from tests.sandbox.images.container import Container, layers_of, unpack

USER, PASSWORD = "deployer", "only for tests"


@pytest.fixture(scope="session")
def images() -> dict[str, Image]:
    """The hotel's releases by tag, and the tools as `tools`."""
    if missing := requirements():
        pytest.skip(" ".join(missing))
    return {"tools" if image.repository.endswith("-tools") else image.tag: image for image in build(print)}


@pytest.fixture(scope="session")
def container(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Every release's files in one root, to run its commands in without a cluster."""
    if os.geteuid() != 0:
        pytest.skip("Only root can change the root folder; the cluster runs the same commands.")
    root = tmp_path_factory.mktemp("root")
    *shared, _ = layers_of(images["v1.0.0"])
    for layer in shared:
        unpack(layer, root)
    for tag, image in images.items():
        unpack(layers_of(image)[-1], root / "releases" / tag)
    (root / "releases").chmod(0o755)
    yield Container(root)
    shutil.rmtree(root)  # 400 MB, which pytest would keep for three runs


@dataclass(frozen=True)
class Registry:
    """A real registry (distribution v3) with one user."""

    url: str
    data: Path

    def blobs(self) -> dict[str, int]:
        """When each stored file was written, to see that nothing was written again."""
        return {str(path): path.stat().st_mtime_ns for path in self.data.rglob("data")}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    if not programs.is_built():
        pytest.skip("The registry is one of the cluster's programs: python -m sandbox.kubernetes up builds them.")
    binaries = programs.obtain(print)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [str(binaries / "htpasswd"), USER]
    (tmp_path / "htpasswd").write_bytes(subprocess.check_output(command, input=PASSWORD.encode()))
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": address, "secret": "s"},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}},
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(settings))
    with (tmp_path / "registry.log").open("w") as log:
        server = subprocess.Popen(
            [str(binaries / "registry"), "serve", str(tmp_path / "registry.yaml")], stdout=log, stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )  # fmt: skip
    try:
        _answers(f"http://{address}/v2/")
        yield Registry(f"http://{address}", tmp_path / "data")
    finally:
        server.terminate()
        server.wait(20)


def _answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 401:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the registry does not answer"
        time.sleep(0.1)
