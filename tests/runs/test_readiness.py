"""Readiness on the sandbox: no release goes out without it, and a pass opens the gate for just that image."""

from __future__ import annotations

import json
import time

import httpx
import psycopg
import pytest

from sandbox import rehearsal
from sandbox.airflow_client import AirflowError
from sandbox.hotel.releases import release
from sandbox.readying import READINESS, SEND, answer, follow, get_ready
from sandbox.runs import DEPLOYMENT

pytestmark = [pytest.mark.run, pytest.mark.slow]
VERSION = "v1.1.0"


@pytest.fixture(scope="module")
def staging(sandbox):
    """The release's migrations were on staging, came back, and are there again."""
    settings = sandbox.settings
    dsn = settings.dsn("metadata", "pms_staging", "pms", settings.secrets.pms)
    with psycopg.connect(dsn, autocommit=True) as connection:
        rehearsal.on_staging(connection, release(VERSION).migrations)


def readiness(production):
    found = production._kube.get("/api/v1/namespaces/production/configmaps/pms-readiness")
    return json.loads(found.json()["data"]["readiness"])


def said(team, run_id):
    """Everything that a run left in logs and XComs."""
    tasks = [task["task_id"] for task in team.admin.task_instances(READINESS, run_id)]
    xcoms = [team.admin.xcom(READINESS, run_id, task, key) for task in tasks for key in ("evidence", "answers")]
    return json.dumps([team.logs(READINESS, run_id), xcoms])


def test_without_readiness_nothing_goes_out(team, production):
    outcome = team.deploy(VERSION, readiness_override_reason=None)
    assert outcome.outcome == "refused"
    log = team.admin.log(DEPLOYMENT, outcome.run_id, "open")
    assert "nothing was touched" in log and "Run the DAG pms_readiness for v1.1.0" in log
    assert not production.lock_holder()


def test_a_source_that_is_down_is_unknown_and_stops_no_other_check(team, production, endpoints, staging, recorded):
    url = f"{endpoints['recorder']}/answers"
    limited = {"path": "*/check-runs", "status": 403, "body": {}, "headers": {"Retry-After": "60"}}
    httpx.put(f"{url}/github", json=limited, trust_env=False).raise_for_status()
    try:
        run = get_ready(team, VERSION, said="not known")
    finally:
        httpx.delete(f"{url}/github", trust_env=False)
    assert run.state == "failed"
    found = readiness(production)
    against = {one["id"]: one for one in found["against"]}
    assert found["verdict"] == "unknown"
    assert against["unit_tests"]["verdict"] == "unknown" and "try again in 60 s" in against["unit_tests"]["reason"]
    assert against["penetration_test"]["reason"].startswith("not known to lead")
    print({name: one["reason"] for name, one in against.items()})
    assert {"pull_requests", "compute_instances", "full_backup", "jwt_secret", "dns"}.isdisjoint(against)
    (table,) = [c["body"]["text"] for c in recorded("slack") if "NOT ready" in (c["body"] or {}).get("text", "")]
    assert "unit-tests" not in table or "QA/Monitoring" in table
    outcome = team.deploy(VERSION, readiness_override_reason=None)
    assert outcome.outcome == "refused"
    assert "v1.1.0 is not ready" in team.admin.log(DEPLOYMENT, outcome.run_id, "open")


def test_only_the_asked_role_answers_and_a_pass_opens_the_gate(team, production, sandbox, endpoints, staging):
    lead = team.roles["lead"]
    run_id = lead.trigger(READINESS, {"version": VERSION})
    deadline = time.monotonic() + 300
    while not (questions := team.admin.questions(READINESS, run_id)) and time.monotonic() < deadline:
        time.sleep(0.5)
    with pytest.raises(AirflowError, match="403"):
        team.roles["qa"].answer(questions[0], [SEND], answer(questions[0], "yes"))
    follow(team, run_id)
    found = readiness(production)
    assert not found["against"], found["against"]
    assert (found["verdict"], found["version"]) == ("pass", VERSION)
    assert found["digest"] == endpoints["images"][VERSION].partition("@")[2]
    assert found["lines"] == 58
    secrets = sandbox.settings.secrets
    values = [secrets.jwt, secrets.staging_jwt, secrets.service, secrets.pms, secrets.postgres]
    everything = said(team, run_id) + json.dumps(found)
    assert not [value for value in values if value in everything]
    outcome = team.deploy(VERSION, readiness_override_reason=None, answer="Rollback")
    assert outcome.outcome == "rolled_back"
    assert production.state()["readiness"].startswith("ready until")
    other = team.deploy("v1.2.0", readiness_override_reason=None)
    assert other.outcome == "refused"
    assert "the last readiness is of v1.1.0" in team.admin.log(DEPLOYMENT, other.run_id, "open")


def test_an_override_is_recorded_and_announced(team, production, recorded):
    outcome = team.deploy("v1.2.0", readiness_override_reason="security fix", answer="Rollback")
    assert outcome.outcome == "rolled_back"
    state = production.state()
    assert "readiness overridden: security fix" in state["reason"]
    assert state["readiness"].startswith("readiness overridden (security fix)")
    texts = [call["body"]["text"] for call in recorded("slack") if "text" in (call["body"] or {})]
    assert any("WITHOUT readiness" in text and "security fix" in text for text in texts)
