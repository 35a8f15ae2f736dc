"""Whole deployments on the sandbox: everything real but the cluster's kubelet, while guests send requests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from handover.kube.permissions import RBAC_NODES, granted, rendered
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.kube import Permission
from sandbox.crowds import seconds_to_traffic_back
from sandbox.demo import rows
from sandbox.runs import DEPLOYMENT
from sandbox.services.access import Access
from tests.runs import reading

pytestmark = pytest.mark.run
INCIDENT = "phase_5_monitoring.incident_response"


@pytest.fixture
def primary(endpoints):
    with psycopg.connect(endpoints["postgres"]["primary"], autocommit=True) as connection:
        yield connection


def applied_migrations(primary) -> list[str]:
    query = "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
    return sorted(name for (name,) in primary.execute(query))


def back_on_the_old_version(production, guests, outcome) -> None:
    """What every rollback has to leave behind."""
    assert outcome.outcome == "rolled_back", outcome
    assert production.serving() == "v1.0.0"
    state = production.state()
    assert state["status"] == "rolled_back"
    assert not production.lock_holder()
    assert production.replicas(state["preview"]) == 0
    assert production.replicas(state["stable"]) == 2
    assert guests.report()["failed"] == 0


@pytest.mark.plan("Image passes security scanning (Trivy)", "Smoke tests pass on green environment")
@pytest.mark.parametrize(
    ("version", "failed_step"),
    [
        ("v1.4.0", "phase_2_application_deployment.deploy_new_version.rollout_status"),
        ("v1.5.0", "phase_2_application_deployment.deploy_new_version.smoke_tests"),
        ("v1.8.0", "phase_2_application_deployment.deploy_new_version.scan_image"),
    ],
)
def test_a_release_that_is_bad_before_the_switch_never_meets_a_guest(team, production, guests, version, failed_step):
    outcome = team.deploy(version)
    back_on_the_old_version(production, guests, outcome)
    assert failed_step in outcome.failed_tasks
    assert set(guests.report()["by_version"]) == {"v1.0.0"}


@pytest.mark.plan("No error spikes observed", "Critical errors affecting core functionality")
@pytest.mark.parametrize("version", ["v1.2.0", "v1.3.0"])
def test_a_release_that_turns_bad_after_the_switch_is_taken_off_by_the_watch(team, production, guests, version):
    outcome = team.deploy(version)
    back_on_the_old_version(production, guests, outcome)
    assert any("watch" in task for task in outcome.failed_tasks)
    report = guests.report()
    assert set(report["bad_by_version"]) <= {version}
    if version == "v1.2.0":
        assert seconds_to_traffic_back(report, version) < 5


def test_a_migration_that_fails_leaves_the_schema_as_it_was(team, production, guests, primary):
    before = applied_migrations(primary)
    outcome = team.deploy("v1.6.0")
    back_on_the_old_version(production, guests, outcome)
    assert "phase_3_database_migration.execute_migration" in outcome.failed_tasks
    lost = [name for name in before if name not in applied_migrations(primary)]
    assert lost == []


def test_data_that_a_migration_corrupts_comes_back(team, production, guests, endpoints, primary):
    before = rows(endpoints["postgres"]["primary"])
    outcome = team.deploy("v1.7.0")
    back_on_the_old_version(production, guests, outcome)
    after = rows(endpoints["postgres"]["primary"])
    assert all(after[table] >= before[table] for table in ("users", "bookings", "rooms", "staff"))
    assert primary.execute("SELECT count(*) FROM users WHERE email IS NULL").fetchone() == (0,)


@pytest.mark.plan("Security issue discovered")
def test_a_person_rolls_back_through_the_rest_api(team, production, guests):
    run_id = team.start("v1.1.0")
    team.until(run_id, "phase_5_monitoring.stabilization", "deferred")
    rollback = team.roles["lead"].trigger("pms_rollback", {"reason": "the lead has seen enough"})
    assert team.follow_rollback(rollback)["state"] == "success"
    again = team.roles["qa"].trigger("pms_rollback", {"reason": "somebody else has seen it too"})
    assert team.follow_rollback(again)["state"] == "success"
    outcome = team.follow("v1.1.0", run_id)
    assert outcome.failed_tasks
    back_on_the_old_version(production, guests, outcome)
    assert guests.report()["bad_answers"] == 0


def test_a_no_of_the_briefing_ends_the_deployment(team, production, guests):
    outcome = team.deploy("v1.1.0", answer="Rollback")
    back_on_the_old_version(production, guests, outcome)
    assert "Rollback by" in outcome.reason
    assert set(guests.report()["by_version"]) == {"v1.0.0"}


def test_only_the_asked_role_may_answer(team):
    run_id = team.start("v1.1.0")
    team.until(run_id, "phase_1_pre_deployment.team_briefing", "awaiting_input")
    (question,) = team.admin.questions(DEPLOYMENT, run_id)
    with pytest.raises(Exception, match="403"):
        team.roles["qa"].answer(question, ["Proceed"])
    assert team.follow("v1.1.0", run_id, answer="Rollback").outcome == "rolled_back"


def test_a_second_deployment_is_refused_and_the_first_one_goes_on(team):
    first = team.start("v1.1.0")
    team.until(first, "open", "success")
    second = team.deploy("v1.1.0", reason="did not know of the first")
    assert second.outcome == "refused"
    assert "has been deploying since" in team.admin.log(DEPLOYMENT, second.run_id, "open")
    assert not [run for run in team.admin.runs("pms_rollback") if second.run_id in run["dag_run_id"]]
    assert team.follow("v1.1.0", first, answer="Rollback").outcome == "rolled_back"


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"image": "evil.example.com/pms:v1.1.0"}, "only repository that this plan trusts"),
        ({"window_override_reason": ""}, "needs a reason"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_touched(team, production, conf, says):
    before = production.state()
    outcome = team.deploy("v1.1.0", **conf)
    assert outcome.outcome == "refused"
    assert says in team.admin.log(DEPLOYMENT, outcome.run_id, "release_due")
    assert production.state() == before


def test_a_version_that_is_not_semantic_is_refused_by_the_form(team):
    with pytest.raises(Exception, match="400"):
        team.start("latest")


def test_a_rollback_of_a_run_that_does_not_exist_is_refused(team, production):
    before = production.serving()
    run_id = team.roles["lead"].trigger("pms_rollback", {"reason": "wrong one", "deployment": "manual__nowhere"})
    assert team.follow_rollback(run_id)["state"] == "failed"
    assert "manual__nowhere" in team.admin.log("pms_rollback", run_id, "move_traffic_back")
    assert production.serving() == before
    assert not production.lock_holder()


def each_where_it_came_last(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(reversed(texts)))[::-1]


def the_record_is_whole(team, endpoints, sandbox, run_id, slack) -> None:
    """Every step of the DAG, who decided what, what was said and in which order; and the report of it.

    When Airflow loses a question and asks it again, people hear it twice; on record is the one that was answered.
    """
    record = reading.read(endpoints, run_id, "report")
    assert {c.step for c in record.checks if c.verdict == "pass"} == set(reading.steps_of(team, DEPLOYMENT, run_id))
    by = {d.step.rpartition(".")[2]: (d.choice, d.who) for d in record.decisions}
    assert (by["team_briefing"], by["user_acceptance"]) == (("Proceed", "lead"), ("Proceed", "qa"))
    assert [d.choice for d in record.decisions if d.who == "system"] == ["Proceed"] * 4
    assert [m.text for m in record.messages if m.channel.startswith("slack")] == each_where_it_came_last(slack)
    assert {m.channel for m in record.messages} >= {"status page", "e-mail"}
    assert len({s.at for s in record.samples if s.what == "error_rate"}) > 20
    assert record.outcomes[-1].status == "succeeded"
    assert record.incidents == ()
    html, markdown = (reading.stored(sandbox, run_id, ending) for ending in ("html", "md"))
    assert quote(f"production/reports/{run_id}.html") in slack[-1]
    assert "Phase 6: Monitoring stabilized" in markdown
    assert html.count("<svg") == 3
    assert html.count('class="series"') >= 6
    said = html + markdown + reading.said_by(record)
    assert not [secret for secret in reading.secrets_of(endpoints) if secret in said]


@pytest.mark.plan(
    "Strategy: Blue-Green Deployment",
    "Real-time Slack updates during deployment",
    "Zero-downtime approach:",
    "Zero downtime achieved",
)
def test_a_good_release_goes_out_without_losing_a_request(
    team, production, guests, endpoints, primary, recorded, sandbox
):
    before = rows(endpoints["postgres"]["primary"])
    outcome = team.deploy("v1.1.0")
    assert outcome.outcome == "succeeded", outcome
    assert len(outcome.seconds_by_phase) == 5
    report = guests.report()
    assert (report["failed"], report["bad_answers"]) == (0, 0)
    assert set(report["by_version"]) == {"v1.0.0", "v1.1.0"}
    assert production.serving() == "v1.1.0"
    state = production.state()
    assert state["status"] == "succeeded"
    assert not production.lock_holder()
    assert production.replicas(state["stable"]) == 0
    assert set(state["migration"]["applied"]) <= set(applied_migrations(primary))
    assert state["migration"]["compatible"] is True
    after = rows(endpoints["postgres"]["primary"])
    assert all(after[table] >= before[table] for table in before)
    slack = [call["body"]["text"] for call in recorded("slack") if "text" in (call["body"] or {})]
    assert any(text.startswith("@here Starting production deployment v1.1.0") for text in slack)
    assert any("is deployed" in text for text in slack)
    assert {call["service"] for call in recorded()} >= {"slack", "statuspage", "smtp"}
    the_record_is_whole(team, endpoints, sandbox, outcome.run_id, slack)
    secrets = [endpoints["hotel"]["admin_token"], endpoints["airflow"]["password"], endpoints["kubernetes"]["token"]]
    said = json.dumps([team.logs(DEPLOYMENT, outcome.run_id), recorded(), state])
    assert not [secret for secret in secrets if secret in said]


def asked_of_the_cluster(audit_log: Path) -> set[Permission]:
    """What the deployer asked, by the API server's audit log. An apply that creates is authorized as both."""
    found = set()
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["userAgent"] != "handover":
            continue
        at, created = event["objectRef"], event["verb"] == "patch" and event["responseStatus"]["code"] == 201
        place = at["namespace"], at.get("apiGroup", ""), at["resource"]
        for verb in (event["verb"], "create") if created else (event["verb"],):
            found.add(Permission(*place, verb, at.get("subresource", ""), at.get("name", "")))
    return found


def either_colour(permission: Permission) -> str:
    """What is done to one colour today is done to the other one next time."""
    return str(permission).replace("pms-blue", "pms-<colour>").replace("pms-green", "pms-<colour>")


@pytest.mark.usefixtures("guests")
def test_the_role_allows_what_whole_runs_ask_for_and_nothing_more(team, endpoints):
    """Of every run of this session: those before count, too."""
    assert team.deploy("v1.2.0").outcome == "rolled_back"
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    role, of_readiness = granted(rendered(plan)), granted(rendered(plan, RBAC_NODES))
    named = {dataclasses.replace(p, name="") for p in role if p.name}
    asked = [
        p if dataclasses.replace(p, name="") in named else dataclasses.replace(p, name="")
        for p in asked_of_the_cluster(Path(endpoints["audit_log"]))
    ]
    assert sorted({str(p) for p in asked} - {str(p) for p in (*role, *of_readiness)}) == []
    assert sorted({either_colour(p) for p in role} - {either_colour(p) for p in asked}) == []


def misbehave(endpoints, version, mode) -> None:
    """Every pod of a version, from now on."""
    pods = "/api/v1/namespaces/production/pods"
    with Access(**endpoints["kubernetes"]).client({"X-Admin-Token": endpoints["hotel"]["admin_token"]}) as kube:
        for pod in kube.get(pods).raise_for_status().json()["items"]:
            if pod["metadata"].get("annotations", {}).get("handover/version") == version:
                where = f"{pods}/{pod['metadata']['name']}:8080/proxy/-/fault"
                kube.post(where, json={"mode": mode}).raise_for_status()


@pytest.mark.plan(
    "Notify team in #pms-incidents Slack channel",
    "Decide: Fix or Rollback?",
    "If Rollback: Execute immediately",
    "Decision point: Within first 30 minutes",
)
@pytest.mark.parametrize("answer", ["Rollback", "Fix"])
def test_a_critical_incident_after_the_decision_point_is_put_to_the_lead(team, production, endpoints, recorded, answer):
    before = production.serving()
    run_id = team.start("v1.1.1")
    team.until(run_id, f"{INCIDENT}.monitoring", "deferred")
    misbehave(endpoints, "v1.1.1", "errors")
    team.until(run_id, f"{INCIDENT}.fix_or_rollback", "awaiting_input")
    assert production.serving() == "v1.1.1"
    (question,) = team.admin.questions(DEPLOYMENT, run_id)
    with pytest.raises(Exception, match="403"):
        team.roles["qa"].answer(question, [answer])
    if answer == "Fix":
        misbehave(endpoints, "v1.1.1", "none")
    team.roles["lead"].answer(question, [answer])
    outcome = team.follow("v1.1.1", run_id)
    assert outcome.outcome == ("succeeded" if answer == "Fix" else "rolled_back"), outcome
    assert production.serving() == ("v1.1.1" if answer == "Fix" else before)
    (incident,) = production.state()["incidents"]
    assert incident["outcome"] == ("fixed" if answer == "Fix" else "rolled_back")
    assert f"{answer} by lead" in [entry["what"] for entry in incident["timeline"]]
    (token,) = reading.tickets(recorded)
    assert f"{answer} by lead" in token["description"]
    said = [call["body"]["text"] for call in recorded("slack") if "text" in (call["body"] or {})]
    assert any("CRITICAL incident" in text for text in said)
