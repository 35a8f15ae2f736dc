"""docker-compose.yaml brought up on a Docker host of its own, beside a stand-in production that containers reach."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox.docker import DockerHost, images, requirements
from sandbox.docker.network import reachable
from sandbox.docker.project import Project, fill_in, lay_out
from sandbox.settings import REPOSITORY
from sandbox.stack import COMPONENTS, Sandbox
from tests.conftest import overlay_for_little_data

RESULT = REPOSITORY / ".sandbox" / "compose.json"
UP_SECONDS = "900"


@dataclass
class Stages:
    """How long each stage took, in seconds; written down after each."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 1)
        print(f"{name}: {self.seconds[name]} s")
        RESULT.parent.mkdir(mode=0o700, exist_ok=True)
        RESULT.write_text(json.dumps(self.seconds, indent=2) + "\n")


@dataclass(frozen=True)
class Up:
    project: Project
    stages: Stages
    before: dict[str, list[str]]
    """Containers, networks and volumes before anything was started."""


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Everything is healthy, as `docker compose up --wait` tells."""
    if missing := requirements():
        pytest.skip(" ".join(missing))
    folder, stages = tmp_path_factory.mktemp("compose"), Stages()
    overlay, project_folder = overlay_for_little_data(folder), folder / "project"
    project_folder.mkdir()
    lay_out(project_folder)
    airflows = {"airflow", "watch"}  # compose has both; the watchdog of a second Airflow takes this one's runs for gone
    parts = [name for name in COMPONENTS if name not in airflows]
    with (
        reachable() as network,
        Sandbox(folder / "home", small=True, overlay=overlay, only=parts, network=network) as production,
    ):
        assert airflows.isdisjoint(process.name for process in production.processes)
        fill_in(project_folder, production.settings, Path(production.endpoints["kubeconfig"]), overlay)
        with stages.of("Docker host"):
            host = DockerHost(folder / "docker", shared=[project_folder])
            host.start()
        try:
            with stages.of("base images"):
                images.provide(host)
            project = Project(host, project_folder)
            before = project.objects()
            with stages.of("docker compose build"):
                project.compose("build")
            with stages.of("docker compose up"):
                project.compose("up", "--detach", "--wait", "--wait-timeout", UP_SECONDS)
            yield Up(project, stages, before)
        finally:
            host.stop()
