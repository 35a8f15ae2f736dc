"""The six whole runs of every test run: everything real but the cluster's kubelet, while guests send requests.

One after the other on one sandbox; each is a kind of end that a deployment can have.
"""

from __future__ import annotations

import dataclasses
import json
import time
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from handover.kube.permissions import RBAC_NODES, granted, rendered
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.kube import Permission
from sandbox.crowds import seconds_to_traffic_back
from sandbox.demo import rows
from sandbox.runs import DEPLOYMENT, ROLLBACK
from sandbox.services.access import Access
from tests.runs import reading
from tests.runs.places import places, secrets_of
from tests.runs.reading import applied_migrations, back_on_the_old_version
from tests.support.planted import search

pytestmark = pytest.mark.run
REDELIVERY = "pms_redelivery"
INCIDENT = "phase_5_monitoring.incident_response"
KNOWN_SECONDS = 2.0
"""After so long the watch has read in which phase the deployment is; before, a breach is one of the phase before."""


@pytest.mark.plan("No error spikes observed", "Critical errors affecting core functionality")
@pytest.mark.parametrize("version", ["v1.2.0", pytest.param("v1.3.0", marks=pytest.mark.slow)])
def test_a_release_that_turns_bad_after_the_switch_is_taken_off_by_the_watch(team, production, guests, version):
    outcome = team.deploy(version)
    back_on_the_old_version(production, guests, outcome)
    assert any("watch" in task for task in outcome.failed_tasks)
    report = guests.report()
    assert set(report["bad_by_version"]) <= {version}
    if version == "v1.2.0":
        assert seconds_to_traffic_back(report, version) < 5


def nobody_reads_a_secret(sandbox, team, recorded) -> None:
    """Neither of this run nor of any before it on this sandbox."""
    read = list(places(sandbox, team, recorded))
    secrets = secrets_of(sandbox)
    size = sum(len(place.text) for place in read)
    print(f"{len(secrets)} secrets are looked for in {len(read)} places, {size / 1e6:.1f} MB")
    assert search(read, secrets) == []


def test_data_that_a_migration_corrupts_comes_back(team, production, guests, endpoints, primary, sandbox, recorded):
    before = rows(endpoints["postgres"]["primary"])
    outcome = team.deploy("v1.7.0")
    back_on_the_old_version(production, guests, outcome)
    after = rows(endpoints["postgres"]["primary"])
    assert all(after[table] >= before[table] for table in ("users", "bookings", "rooms", "staff"))
    assert primary.execute("SELECT count(*) FROM users WHERE email IS NULL").fetchone() == (0,)
    nobody_reads_a_secret(sandbox, team, recorded)


@pytest.mark.plan("Security issue discovered")
def test_a_person_rolls_back_now_and_another_through_the_rest_api(team, production, guests, endpoints):
    run_id = team.start("v1.1.0")
    team.until(run_id, "phase_5_monitoring.stabilization", "deferred")
    stranger = httpx.post(f"{endpoints['airflow']['url']}/handover/plans/pms/rollback", json={"reason": "as nobody"})
    assert (stranger.status_code, team.roles["lead"].where("pms")["version"]) == (401, "v1.1.0")
    told = team.roles["lead"].roll_back_now("pms", "the lead has seen enough")
    assert (told["back"], told["moved"], told["rollback"]) == (True, True, f"rollback__{run_id}")
    assert httpx.get(f"{endpoints['public']}/health").headers["X-Version"] == "v1.0.0"
    assert team.follow_rollback(told["rollback"])["state"] == "success"
    again = team.roles["qa"].trigger("pms_rollback", {"reason": "somebody else has seen it too"})
    assert team.follow_rollback(again)["state"] == "success"
    outcome = team.follow("v1.1.0", run_id)
    assert outcome.failed_tasks
    back_on_the_old_version(production, guests, outcome)
    assert guests.report()["bad_answers"] == 0


def test_with_ledger_and_channels_away_a_deployment_comes_back_and_what_was_missed_is_made_up_for(
    team, production, endpoints
):
    """Whatever is asked of people is asked in Airflow, so it needs none of them. The record is completed by clearing
    the task `report`, and what nobody was told is told, without anybody's doing.
    """
    with reading.away(endpoints), reading.silent(endpoints, "slack", "statuspage", "jira"):
        run_id = team.start("v1.1.0")
        outcome = team.follow("v1.1.0", run_id, answer="Rollback")
    back = f"rollback__{run_id}"
    assert outcome.outcome == "rolled_back"
    assert not production.lock_holder()
    assert "not recorded now, but when the run ends" in team.admin.log(DEPLOYMENT, run_id, "open")
    assert "no ticket: nothing moved" in team.admin.log(ROLLBACK, back, "post_rollback_actions.open_ticket")
    assert team.admin.task_states(ROLLBACK, back)["verify_application.watch"] == "skipped"
    assert team.admin.task_states(ROLLBACK, back)["report"] == "failed"
    team.admin.clear_task(ROLLBACK, back, "report")
    record = reading.read(endpoints, run_id, "report", seconds=120)
    ran = {(run_id, step) for step in reading.steps_of(team, DEPLOYMENT, run_id)}
    ran |= {(back, step) for step in reading.steps_of(team, ROLLBACK, back)}
    assert {(check.run, check.step) for check in record.checks} == ran
    assert (record.outcomes[-1].status, record.outcomes[-1].stopped, record.incidents) == ("rolled_back", True, ())
    told = {team.admin.wait_for_run(REDELIVERY, run["dag_run_id"], 120) for run in team.admin.runs(REDELIVERY)}
    assert "success" in told  # the early ones gave up
    assert reading.hears(endpoints, run_id, "STOPPED before the switch")


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
    assert quote(f"production/{run_id}.html") in slack[-1]
    assert "Phase 6: Monitoring stabilized" in markdown
    assert html.count('src="data:image/svg+xml') == 3


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
    slack = [unescape(call["body"]["text"]) for call in recorded("slack") if "text" in (call["body"] or {})]
    assert any(text.startswith("@here Starting production deployment v1.1.0") for text in slack)
    assert any("is deployed" in text for text in slack)
    assert {call["service"] for call in recorded()} >= {"slack", "statuspage", "smtp"}
    the_record_is_whole(team, endpoints, sandbox, outcome.run_id, slack)
    nobody_reads_a_secret(sandbox, team, recorded)


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
@pytest.mark.parametrize("answer", ["Rollback", pytest.param("Fix", marks=pytest.mark.slow)])
def test_a_critical_incident_after_the_decision_point_is_put_to_the_lead(team, production, endpoints, recorded, answer):
    before = production.serving()
    run_id = team.start("v1.1.1")
    team.until(run_id, f"{INCIDENT}.monitoring", "deferred")
    time.sleep(KNOWN_SECONDS)
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


def test_the_role_allows_what_whole_runs_ask_for_and_nothing_more(team, endpoints):
    """Of every run of this session, so it comes last."""
    if not any(run["state"] == "success" for run in team.admin.runs(ROLLBACK)):
        pytest.skip("nothing was deployed and rolled back before; run the whole file")
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    role, of_readiness = granted(rendered(plan)), granted(rendered(plan, RBAC_NODES))
    allowed = (*role, *granted(rendered(plan), optional=True), *of_readiness)
    named = {dataclasses.replace(p, name="") for p in role if p.name}
    asked = [
        p if dataclasses.replace(p, name="") in named else dataclasses.replace(p, name="")
        for p in asked_of_the_cluster(Path(endpoints["audit_log"]))
    ]
    assert sorted({str(p) for p in asked} - {str(p) for p in allowed}) == []
    unasked = {either_colour(p) for p in role} - {either_colour(p) for p in asked}
    verdicts = [run for run in team.admin.runs("pms_readiness") if run["state"] in ("success", "failed")]
    if len(verdicts) < 2:  # the first one is created; runs that keep another one are in test_readiness.py
        unasked.discard("update configmaps/pms-readiness in production")
    assert sorted(unasked) == []
