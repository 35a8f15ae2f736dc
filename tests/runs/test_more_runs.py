"""Whole deployments that end early, or differ from those of test_runs in what is wrong with the release."""

from __future__ import annotations

import pytest

from handover.workflows.deployment.overrides import SECOND_PERSON
from handover.workflows.deployment.second_person import AGREE, REFUSE
from sandbox.runs import DEPLOYMENT
from tests.runs.reading import applied_migrations, back_on_the_old_version

pytestmark = [pytest.mark.run, pytest.mark.slow]


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


def test_a_migration_that_fails_leaves_the_schema_as_it_was(team, production, guests, primary):
    before = applied_migrations(primary)
    outcome = team.deploy("v1.6.0")
    back_on_the_old_version(production, guests, outcome)
    assert "phase_3_database_migration.execute_migration" in outcome.failed_tasks
    lost = [name for name in before if name not in applied_migrations(primary)]
    assert lost == []


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


def test_overrides_take_a_second_person_who_is_not_the_one_who_started_the_run(team, production):
    before = production.state()
    run_id = team.start("v1.1.0")
    team.until(run_id, SECOND_PERSON, "awaiting_input")
    (question,) = team.admin.questions(DEPLOYMENT, run_id)
    with pytest.raises(Exception, match="403"):
        team.roles["lead"].answer(question, [AGREE])
    assert question["assigned_users"] == [{"id": "cto", "name": "CTO"}] and "no Tuesdays" in question["body"]
    outcome = team.follow("v1.1.0", run_id, answer=REFUSE)
    assert (outcome.outcome, production.state()) == ("refused", before)
    assert "Refuse by cto: " in outcome.failed_tasks[SECOND_PERSON]
    assert not production.lock_holder()
    assert [run for run in team.admin.runs("pms_rollback") if run_id in run["dag_run_id"]] == []


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
