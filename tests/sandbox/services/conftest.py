"""The services without cluster and Airflow, shared by the tests of this folder."""

from __future__ import annotations

import httpx
import pytest

from sandbox.stack import Sandbox

PARTS = ("primary", "replica", "recorder", "registry", "smtp", "aws")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory):
    with Sandbox(tmp_path_factory.mktemp("services") / "home", small=True, only=PARTS) as running:
        yield running


@pytest.fixture
def settings(services: Sandbox):
    return services.settings


@pytest.fixture
def recorder(settings):
    """A client of the recorder, which has forgotten everything and answers as usual."""
    with httpx.Client(base_url=settings.url("recorder"), trust_env=False) as client:
        client.delete("/recorded")
        yield client
        for service in ("slack", "statuspage", "sentry", "datadog", "jira", "smtp"):
            client.delete(f"/answers/{service}")
