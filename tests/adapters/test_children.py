"""Programs that we start see no secret of ours, whatever else they are given."""

from __future__ import annotations

import os

import pytest

from handover.adapters import children
from handover.adapters.postgres import Database

SECRETS = {
    "AIRFLOW_CONN_PMS_AWS": "a", "AIRFLOW__CORE__FERNET_KEY": "b", "AIRFLOW__API_AUTH__JWT_SECRET": "c",
    "HANDOVER_EVIDENCE_KEY": "d", "HANDOVER_ACCOUNTS": "e", "_AIRFLOW_ANYTHING": "f",
}  # fmt: skip
OTHERS = {"AWS_SECRET_ACCESS_KEY": "g", "SOME_TOKEN": "h", "PGPASSWORD": "i"}


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    for name, value in {**SECRETS, **OTHERS, "LC_TIME": "C"}.items():
        monkeypatch.setenv(name, value)


def test_postgresqls_programs_see_the_one_password_that_they_need():
    seen = Database("host", 5432, "db", "owner", "the one").environment()
    assert seen["PGPASSWORD"] == "the one" and seen["PATH"] == os.environ["PATH"] and seen["LC_TIME"] == "C"
    assert not set(seen) & {*SECRETS, "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"}


def test_a_program_of_somebody_else_keeps_its_own_variables():
    seen = children.not_ours()
    assert not set(seen) & set(SECRETS) and OTHERS.items() <= seen.items()
