"""What docker-compose.yaml promises, as far as the file shows it."""

from __future__ import annotations

import re

import pytest
import yaml

from sandbox.docker.project import lay_out, variables
from sandbox.settings import REPOSITORY

TEXT = (REPOSITORY / "docker-compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
LASTING = sorted(set(SERVICES) - {"migrate"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    lay_out(folder)
    return variables(folder)


IMAGES = {
    "POSTGRES_IMAGE": "postgres:18", "REDIS_IMAGE": "redis:8", "PYTHON_IMAGE": "python:3.13-slim-trixie",
}  # fmt: skip


def test_every_variable_is_made_by_the_script_but_for_images_that_somebody_names_by_digest(made):
    assert set(re.findall(r"\$\{(\w+)", TEXT)) - set(made) == IMAGES.keys()


def test_nothing_is_made_in_vain(made):
    assert set(made) - set(re.findall(r"\$\{(\w+)", TEXT)) == set()


def test_a_secret_is_never_given_by_default():
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert defaults == IMAGES | {"AIRFLOW_PUBLISH": "127.0.0.1:8080", "AIRFLOW_URL": "http://localhost:8080"}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_services_are_watched_bounded_and_started_again(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])


def test_one_port_is_published():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["apiserver"]


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])
def test_airflow_writes_only_to_its_logs(name):
    writable = [volume for volume in SERVICES[name]["volumes"] if not volume.endswith(":ro")]
    assert writable == ["logs:/opt/airflow/logs"]


def holders(of: str) -> set[str]:
    """The services that are given a variable, or mount a folder, or read a file of this name."""
    return {name for name, service in SERVICES.items() if of in str({**service, "command": ""})}


def test_only_who_needs_a_secret_has_it():
    """docs/security.md says what each is worth."""
    assert holders("HANDOVER_EVIDENCE_KEY") == {"worker"}
    assert holders("HANDOVER_ACCOUNTS") == {"migrate"}
    assert holders("JWT_SECRET") == {"apiserver", "scheduler"}
    assert holders("API_SECRET_KEY") == {"apiserver"}
    database = {"migrate", "apiserver", "scheduler", "dag-processor", "triggerer"}
    assert holders("FERNET_KEY") == database
    assert holders("POSTGRES_PASSWORD") == database | {"postgres"}
    assert holders("REDIS_PASSWORD") == {"redis", "scheduler", "worker"}
    production = {"apiserver", "triggerer", "watch", "worker"}
    assert holders("airflow.env") == holders("./production:") == production
