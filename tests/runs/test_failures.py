"""What goes wrong around a deployment, injected: the outcome is the old version back, or the deployment unharmed."""

from __future__ import annotations

import psutil
import pytest

from sandbox.runs import DEPLOYMENT, ROLLBACK
from tests.runs import reading

pytestmark = [pytest.mark.run, pytest.mark.slow]


def came_back(team, production, run_id) -> None:
    assert team.follow_rollback(f"rollback__{run_id}")["state"] == "success"
    assert production.serving() == production.state()["previous_version"]
    assert production.state()["status"] == "rolled_back"
    assert not production.lock_holder()


def test_a_scheduled_run_with_nothing_due_ends_at_once_skipped(team):
    (run,) = [run for run in team.admin.runs(DEPLOYMENT) if run["run_type"] == "scheduled"]
    assert team.admin.wait_for_run(DEPLOYMENT, run["dag_run_id"], 120) == "success"
    assert set(team.admin.task_states(DEPLOYMENT, run["dag_run_id"]).values()) == {"skipped"}
    assert "no release is due" in team.admin.log(DEPLOYMENT, run["dag_run_id"], "release_due")


def test_a_run_marked_failed_by_hand_is_rolled_back(team, production):
    """No callback hears of this, and no task of the run is started any more: only the listener sees it."""
    run_id = team.start("v1.1.0")
    team.until(run_id, "phase_2_application_deployment.deploy_new_version.soak", "deferred")
    team.admin.mark_run(DEPLOYMENT, run_id, "failed")
    came_back(team, production, run_id)


def test_a_task_marked_failed_by_hand_is_rolled_back(team, production):
    run_id = team.start("v1.1.0")
    task = "phase_2_application_deployment.deploy_new_version.soak"
    team.until(run_id, task, "deferred")
    team.admin.mark_task(DEPLOYMENT, run_id, task, "failed")
    came_back(team, production, run_id)


def test_behind_a_step_marked_successful_by_hand_nothing_is_done(team, production):
    """Airflow goes on at once, past all that comes before it in the plan; the step behind it refuses and says why."""
    run_id = team.start("v1.1.0")
    marked, behind = (
        f"phase_2_application_deployment.deploy_new_version.{one}" for one in ("scan_image", "verify_signature")
    )
    team.until(run_id, "open", "success")
    team.admin.mark_task(DEPLOYMENT, run_id, marked, "success")
    came_back(team, production, run_id)
    assert f"nothing was done: {marked} left no evidence" in team.admin.log(DEPLOYMENT, run_id, behind)
    assert (
        team.admin.task_states(DEPLOYMENT, run_id)["phase_2_application_deployment.deploy_new_version.switch_traffic"]
        != "success"
    )


def test_a_killed_task_runs_again_and_finds_what_it_did(team, production):
    """The process is killed beside its own supervisor, as the kernel does when memory is short."""
    run_id = team.start("v1.1.0")
    task = "phase_1_pre_deployment.database_backup.backup"
    team.until(run_id, task, "running")
    (key,) = [t["id"] for t in team.admin.task_instances(DEPLOYMENT, run_id) if t["task_id"] == task]
    victims = [
        p for p in psutil.process_iter(["cmdline"]) if " ".join(p.info["cmdline"] or []).strip().endswith(f"-- {key}")
    ]
    for victim in victims:
        victim.kill()
    outcome = team.follow("v1.1.0", run_id, answer="Rollback")
    assert victims
    assert outcome.outcome == "rolled_back"
    (found,) = [t for t in team.admin.task_instances(DEPLOYMENT, run_id) if t["task_id"] == task]
    assert (found["state"], found["try_number"]) == ("success", 2)


def test_what_the_ledger_missed_is_written_when_it_is_back(team, endpoints):
    """Away for the whole first phase; the deployment does not notice, and the record has every step in the end."""
    briefing = "phase_1_pre_deployment.team_briefing"
    with reading.away(endpoints):
        run_id = team.start("v1.1.0")
        team.until(run_id, briefing, "awaiting_input")
    assert "not recorded now, but when the run ends" in team.admin.log(DEPLOYMENT, run_id, "open")
    assert team.follow("v1.1.0", run_id, answer="Rollback").outcome == "rolled_back"
    record = reading.read(endpoints, run_id, "report")
    ran = {(run_id, step) for step in reading.steps_of(team, DEPLOYMENT, run_id)}
    ran |= {(f"rollback__{run_id}", step) for step in reading.steps_of(team, ROLLBACK, f"rollback__{run_id}")}
    assert {(check.run, check.step) for check in record.checks} == ran
    assert record.deployment.requested_by == "lead"
    assert ("Rollback", "lead") in {(d.choice, d.who) for d in record.decisions}
    assert record.incidents == ()  # no client ever met it
