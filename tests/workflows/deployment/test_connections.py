"""No deployment begins with a database for which anybody on the way could answer, unless the plan says so by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyrage.x25519 import Identity

from handover.plan.transport import Transport
from handover.readiness.check import NoAnswer
from handover.readiness.databases import applied
from handover.workflows.deployment.connections import Found, connections_of

PRIMARY, REPLICA, KEY = "pms_primary", "pms_replica", "pms_backup_key"


@pytest.fixture
def found(plan, monkeypatch):
    """What is found where the primary's connection has these in its extra, and is off this machine."""
    identity = str(Identity.generate())

    def look(
        accepted: frozenset[str] = frozenset(), host: str = "db.example.com", secret: str = identity, **extra: Any
    ) -> Found:
        for name in plan.connections:
            kind: dict[str, Any] = {"conn_type": "http", "host": "example.com", "extra": {"sslmode": "of no database"}}
            if name == PRIMARY:
                kind = {"conn_type": "postgres", "host": host, "extra": extra}
            if name == KEY:
                kind = {"conn_type": "generic", "password": secret}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(kind))
        return connections_of(plan.model_copy(update={"transport": Transport(unverified=accepted)}))

    return look


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_a_mode_that_verifies_nothing_is_refused_with_what_to_do(found, mode):
    problem = found(sslmode=mode).problem
    assert f"database of {PRIMARY} (sslmode={mode})" in problem and "transport.unverified" in problem
    assert found(sslmode=mode, host="127.0.0.1").problem == ""


@pytest.mark.parametrize("extra", [{}, {"sslmode": ""}, {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem"}])
def test_one_that_verifies_is_good(found, extra):
    assert (found(**extra).problem, found(**extra).said) == ("", "")


def test_what_the_plan_accepts_by_name_is_said_in_every_deployment(found):
    one = found(frozenset({PRIMARY}), sslmode="require")
    assert (one.problem, one.said) == ("", f"; not verified, as the plan accepts: {PRIMARY} (sslmode=require)")
    assert PRIMARY in found(frozenset({REPLICA}), sslmode="require").problem


def test_an_option_that_nobody_knows_is_not_taken_for_one_that_counts(found):
    assert f"{PRIMARY} (unknown sslrootcertificate)" in found(sslrootcertificate="/etc/ca.pem").problem


def test_nothing_begins_with_a_key_that_can_encrypt_nothing(found):
    assert found(secret="a password").problem.startswith(f"no backup could be encrypted: the password of {KEY} is not")


def test_a_connection_that_nobody_has_made_comes_first(found, monkeypatch, plan):
    found(sslmode="require")
    monkeypatch.delenv(f"AIRFLOW_CONN_{REPLICA.upper()}")
    assert connections_of(plan).problem.startswith(f"missing Airflow connections: {REPLICA}; add them under Admin")


def test_no_check_of_readiness_asks_whoever_answers_for_a_database(plan, monkeypatch):
    there = {"conn_type": "postgres", "host": "192.0.2.1", "extra": {"sslmode": "require"}}  # nobody's: RFC 5737
    monkeypatch.setenv("AIRFLOW_CONN_STAGING", json.dumps(there))
    with pytest.raises(NoAnswer, match="staging is not asked: sslmode=require"):
        applied("staging", plan)
