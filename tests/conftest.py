"""One whole sandbox for all tests that need one, started when the first of them asks for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

from sandbox.crowds import Guests
from sandbox.kubernetes import Kubernetes
from sandbox.settings import REPOSITORY
from sandbox.stack import Sandbox
from tests.support.cluster import cluster  # noqa: F401 - a fixture
from tests.support.dags import dag_bag  # noqa: F401 - a fixture
from tests.support.fuzz import Examples
from tests.support.postgres import programs, replicated, servers  # noqa: F401 - fixtures
from tests.support.side_by_side import RUNS, pytest_xdist_make_scheduler  # noqa: F401 - a hook
from tests.support.summary import Summary

# How long an example takes says something about this machine, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# What decides whether a change lands draws the same examples every time; everybody else looks for new ones.
settings.register_profile("same", settings.get_profile("any machine"), derandomize=True)
os.environ["HANDOVER_EVIDENCE_KEY"] = "a key for every test of this process"

TESTS = REPOSITORY / "tests"
OVERLAY = REPOSITORY / "sandbox" / "overlay.yaml"

STAND_IN, REAL = "stand-in", "kubernetes"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", choices=[STAND_IN, REAL], default=STAND_IN, help="what whole runs deploy to")
    parser.addoption("--fuzz", type=int, metavar="N", help="examples of each property of what others write to us")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Summary())
    Examples.wanted = config.getoption("--fuzz") or Examples.wanted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: whole runs. The sandbox's own suite is slow."""
    for item in items:
        if item.path.is_relative_to(TESTS / "sandbox"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.nodeid.startswith(RUNS))


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> None:
    """Airflow hides whatever was a password in this process; that of a task knows only its own."""
    from airflow.sdk._shared.secrets_masker import reset_secrets_masker

    reset_secrets_masker()


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory):
    """A real Kubernetes of our own, empty; what keeps it from being started here is a failure, never a skip."""
    with Kubernetes(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Everything, with little hotel data and the plan's times compressed as in the demo."""
    folder = tmp_path_factory.mktemp("sandbox")
    real = request.getfixturevalue("real_cluster") if request.config.getoption("--cluster") == REAL else None
    plans = folder / "include" / "plans"
    shutil.copytree(REPOSITORY / "include" / "plans", plans)  # a test may add one
    overlay = overlay_for_little_data(folder)
    with Sandbox(folder / "home", small=True, overlay=overlay, plans=plans, cluster=real) as running:
        yield running


@pytest.fixture(scope="session")
def endpoints(sandbox: Sandbox):
    """What `endpoints.json` holds."""
    return sandbox.endpoints


@pytest.fixture
def guests(endpoints: dict[str, Any], tmp_path: Path) -> Iterator[Guests]:
    """Requests to production while the test does something to it."""
    with Guests(endpoints, tmp_path, rate=60) as crowd:
        yield crowd


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3. One for all: its buckets belong to the process, however many servers it has."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3(s3_endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=s3_endpoint, region_name="eu-central-1", aws_access_key_id="test",
        aws_secret_access_key="test", config=Config(proxies={}),
    )  # fmt: skip
    client.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return client


def overlay_for_little_data(folder: Path) -> Path:
    """The demo's overlay with shorter soaks, and a size rule that the backup of little data can keep."""
    little = {
        "backup": {"min_bytes": "100KB"},
        "watch": {"after_switch_seconds": 8, "stabilization_seconds": 12, "after_rollback_seconds": 4},
        "rollback": {"window_seconds": 8},
    }
    values = yaml.safe_load(OVERLAY.read_text())
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(values | {name: values.get(name, {}) | part for name, part in little.items()}))
    return path
