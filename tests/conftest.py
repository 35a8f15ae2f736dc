"""One whole sandbox for all tests that need one, started when the first of them asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sandbox.kubernetes import Kubernetes
from sandbox.settings import REPOSITORY
from sandbox.stack import Sandbox

OVERLAY = REPOSITORY / "sandbox" / "overlay.yaml"


STAND_IN, REAL = "stand-in", "kubernetes"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", choices=[STAND_IN, REAL], default=STAND_IN, help="what whole runs deploy to")


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory):
    """A real Kubernetes of our own, empty; what keeps it from being started here is a failure, never a skip."""
    with Kubernetes(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Everything, with little hotel data and the plan's times compressed as in the demo."""
    folder = tmp_path_factory.mktemp("sandbox")
    real = request.config.getoption("--cluster") == REAL
    cluster = request.getfixturevalue("real_cluster") if real else None
    with Sandbox(folder / "home", small=True, overlay=overlay_for_little_data(folder), cluster=cluster) as running:
        yield running


@pytest.fixture(scope="session")
def endpoints(sandbox: Sandbox):
    """What `endpoints.json` holds."""
    return sandbox.endpoints


def overlay_for_little_data(folder: Path) -> Path:
    """The demo's overlay, and a size rule that the backup of little data can keep."""
    values = yaml.safe_load(OVERLAY.read_text()) if OVERLAY.exists() else {}
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump({**values, "backup": {**values.get("backup", {}), "min_bytes": "100KB"}}))
    return path
