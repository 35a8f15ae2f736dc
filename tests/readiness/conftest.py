"""The stand-in's services without cluster and Airflow, and the checks of the repository's own checklist."""

from __future__ import annotations

import functools
import json
import os
import time
from typing import Any

import httpx
import pytest
import yaml
from pydantic import TypeAdapter

from handover.models.evidence import Evidence
from handover.models.readiness import Subject
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.readiness.aws import client as real_client
from handover.readiness.check import CheckKind, Scope, judged
from handover.readiness.checklist import Line, load
from handover.readiness.kinds import AnyCheck
from handover.readiness.operators import line_verdict
from sandbox.services.aws import client
from sandbox.services.connections import connections
from sandbox.stack import Sandbox
from tests.support.cluster import REPOSITORY
from tests.support.web import waited  # noqa: F401 - a fixture
from tests.twins.beside import in_cluster, twin  # noqa: F401 - fixtures

PARTS = ("primary", "replica", "staging", "recorder", "aws", "edge")
KINDS: TypeAdapter[CheckKind] = TypeAdapter(AnyCheck)
SUBJECT = Subject(version="v1.1.0", image="i@sha256:1", digest="sha256:1", previous="v1.0.0")


@pytest.fixture
def plan():
    """The repository's, with the images of the tests."""
    found = load_plan(INCLUDE / "plans" / "pms.yaml")
    return found.model_copy(update={"image": found.image.model_copy(update={"repository": REPOSITORY})})


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    with Sandbox(tmp_path_factory.mktemp("readiness") / "home", small=True, only=PARTS) as running:
        yield running


@pytest.fixture
def settings(stand_in, monkeypatch):
    """The stand-in's settings, with every Airflow connection in place but the cluster's."""
    for name, connection in connections(stand_in.settings).items():
        if name != "pms_kubernetes":
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    return stand_in.settings


@pytest.fixture(scope="session")
def small_plan(tmp_path_factory):
    """The repository's plan, with a size rule that a few bytes can keep."""
    overlay = tmp_path_factory.mktemp("plan") / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"backup": {"min_bytes": "10B"}}))
    return load_plan(INCLUDE / "plans" / "pms.yaml", overlay)


@pytest.fixture
def scope(small_plan):
    return Scope(small_plan, SUBJECT, time.time())


@pytest.fixture
def lines(small_plan) -> dict[str, Line]:
    """The leaves of the checklist by id."""
    return {leaf.id: leaf for leaf in load(small_plan).leaves}


@pytest.fixture
def verdict(settings, scope, lines):
    """The evidence of a line of the repository's checklist."""
    return lambda name: line_verdict(lines[name], scope)


def look(scope: Scope, **parameters: Any) -> Evidence:
    """The evidence of a check that is given as the checklist would give it."""
    return judged(KINDS.validate_python(parameters), scope)


@pytest.fixture(scope="session")
def recorder(stand_in):
    with httpx.Client(base_url=stand_in.settings.url("recorder"), trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def says(settings, recorder):
    """Sets what a service of the recorder answers: ``says("github", body, path="*/pulls", status=200)``."""
    touched = set()

    def say(service: str, body: Any, **more: Any) -> None:
        touched.add(service)
        recorder.put(f"/answers/{service}", json={"body": body, **more}).raise_for_status()

    yield say
    for service in touched:
        recorder.delete(f"/answers/{service}")


@functools.cache
def _client(service: str, connection: str, _known: str) -> Any:
    return real_client(connection, service)


@pytest.fixture(autouse=True)
def one_client_of_each_service(monkeypatch):
    """Real ones, but not anew for every check: making one costs more than all that a test asks."""

    def client_of(connection: str, service: str) -> Any:
        return _client(service, connection, os.environ.get(f"AIRFLOW_CONN_{connection.upper()}", ""))

    for module in ("logs", "secrets", "storage"):
        monkeypatch.setattr(f"handover.readiness.{module}.client", client_of)


@pytest.fixture(scope="session")
def aws(stand_in):
    """A client of a service of the stand-in, made once."""
    return functools.cache(lambda service: client(stand_in.settings, service))
