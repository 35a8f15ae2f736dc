"""The recorder and the mail server, with the plan's connections leading to them."""

from __future__ import annotations

import json

import pytest

from sandbox.stack import Sandbox
from tests.support.told import Told
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.support.web import waited  # noqa: F401 - a fixture


@pytest.fixture(scope="package")
def recorder(tmp_path_factory):
    with Sandbox(tmp_path_factory.mktemp("people") / "home", only=["recorder", "smtp"]) as sandbox:
        yield sandbox


@pytest.fixture
def told(recorder, monkeypatch):
    """Points the plan's connections at the recorder; gives what it has recorded since, and takes channels away."""
    url, settings = recorder.endpoints["recorder"], recorder.settings
    connections = {
        "PMS_SLACK": {"conn_type": "slack", "password": "xoxb-secret", "extra": {"base_url": f"{url}/slack/api/"}},
        "PMS_STATUS_PAGE": {"conn_type": "http", "host": f"{url}/statuspage", "password": "secret"},
        "PMS_JIRA": {"conn_type": "http", "host": f"{url}/jira", "login": "me", "password": "secret"},
        "PMS_SMTP": {
            "conn_type": "smtp", "host": settings.host("smtp"), "port": settings.port("smtp"),
            "extra": {"disable_ssl": True, "disable_tls": True},
        },
    }  # fmt: skip
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    found = Told(url)
    found.forget()
    yield found
    found.back()
