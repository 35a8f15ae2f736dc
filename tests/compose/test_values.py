"""deploy/helm/values.yaml: names that the chart and Airflow know, no secret, the same users as on one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from airflow.configuration import conf

from sandbox.settings import REPOSITORY
from tests.support.chart import unknown

TEXT = (REPOSITORY / "deploy" / "helm" / "values.yaml").read_text()
VALUES = yaml.safe_load(TEXT)
CHART = yaml.safe_load(Path(__file__).with_name("chart-keys.yaml").read_text())
GUIDE = (REPOSITORY / "docs" / "scaling.md").read_text()


def test_the_chart_knows_every_key():
    assert list(unknown(VALUES, CHART)) == []


@pytest.mark.parametrize(
    ("section", "option"), [(section, option) for section, options in VALUES["config"].items() for option in options]
)
def test_airflow_knows_every_option(section, option):
    described = conf.configuration_description.get(section, {}).get("options", {})
    from_providers = conf.has_option(section, option)
    assert option in described or from_providers


def test_the_version_is_that_of_the_lock_file():
    lock = (REPOSITORY / "requirements" / "lock.txt").read_text()
    assert f"\napache-airflow=={VALUES['airflowVersion']} " in lock


def test_every_pod_runs_the_image_by_its_digest():
    images = VALUES["images"]
    assert images["airflow"] == images["pod_template"]
    assert re.fullmatch(r"[\w.]+@sha256:[0-9a-f]{64}", images["airflow"]["tag"])


def test_people_sign_in_as_they_do_on_one_machine():
    file = REPOSITORY / "docker-compose.yaml"
    compose = yaml.safe_load(file.read_text())["services"]["apiserver"]["environment"]
    for section, option in [("core", "auth_manager"), ("fab", "session_max_lifetime_minutes")]:
        assert VALUES["config"][section][option] == compose[f"AIRFLOW__{section.upper()}__{option.upper()}"]


def test_the_key_of_evidence_and_the_first_passwords_reach_no_pod_that_does_not_need_them():
    assert "EVIDENCE" not in VALUES["extraEnvFrom"] and "accounts" not in VALUES["extraEnvFrom"]
    having = [name for name, part in VALUES.items() if isinstance(part, dict) and "secretKeyRef" in str(part)]
    assert sorted(having) == ["createUserJob", "workers"]


def test_the_guide_makes_every_secret_that_is_named():
    named = set(re.findall(r"(?:[sS]ecretName: |secretKeyRef: \{name: |secretRef: \{name: )([\w-]+)", TEXT))
    named |= {value for name, value in VALUES.items() if name.endswith("SecretName")} | {
        VALUES["data"]["metadataSecretName"]
    }
    missing = {name for name in named if f"secret {name} " not in GUIDE}
    assert missing == {"airflow-tls"}  # of whoever makes certificates in that cluster


def test_no_password_stands_in_it():
    assert not re.search(r"(?i)password: *\S|://\w+:[^@{]+@(?!host)", TEXT)
