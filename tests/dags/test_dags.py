"""The DAG files: whole, thin, quiet at parse time, and one pair of DAGs for each plan."""

from __future__ import annotations

import itertools
import re
import shutil
import socket
from copy import copy
from pathlib import Path

import pytest
import yaml
from airflow.sdk import RetryAction, TriggerRule
from airflow.sdk.exceptions import ParamValidationError

from handover.checks.operators import RecentErrors
from handover.checks.sensors import Healthy
from handover.coordination.lock import FencedOut
from handover.database.sensors import ReplicationLag
from handover.foundation import Founded
from handover.people.operators import ROLLBACK, Confirm
from handover.people.question import Remind, RoleQuestion
from handover.plan.parts import PLANS_VARIABLE
from handover.ports.kube import KubeError
from handover.step import Step
from handover.workflows.dags import ASIDE
from handover.workflows.deployment.deciding import Decide, RollBack
from handover.workflows.deployment.second_person import REFUSE
from handover.workflows.dry_run.steps import Preview
from handover.workflows.readiness.checks import DataChecks
from tests.support.dags import bag_of

ROOT = Path(__file__).resolve().parents[2]
ASKED = ("second_person", "team_briefing", "user_acceptance", "fix_or_rollback")
REMINDERS = {*(f"remind_{question}" for question in ASKED), "reminded"}
REFUSED_BY = {"release_due", "second_person", "open", "give_up"}
PHASES = [
    "phase_1_pre_deployment",
    "phase_2_application_deployment",
    "phase_3_database_migration",
    "phase_4_post_deployment_testing",
    "phase_5_monitoring",
]


@pytest.fixture
def bag(dag_bag):
    return dag_bag


@pytest.fixture
def deployment(bag):
    return bag.dags["pms_deployment"]


@pytest.fixture
def plans(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    shutil.copy(ROOT / "include" / "plans" / "pms.yaml", tmp_path)
    return tmp_path


DAGS = (
    "announcements", "data_import", "data_migration", "data_migration_control", "deployment", "dry_run", "followups",
    "readiness", "redelivery", "rollback", "seed", "watchdog",
)  # fmt: skip


def dags_of(*plans: str) -> list[str]:
    return sorted(f"{plan}_{dag}" for plan in plans for dag in DAGS)


def test_every_dag_of_the_plan_is_there_without_errors(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == dags_of("pms")


def test_the_phases_are_task_groups_in_the_order_of_the_plan(deployment):
    assert [g for g in deployment.task_group_dict if g and "." not in g and g != ASIDE] == PHASES
    for first, second in itertools.pairwise(PHASES):
        branch = deployment.get_task(f"{first}.decide")
        roots = {task.task_id for task in deployment.task_group_dict[second].get_roots()}
        assert branch.downstream_task_ids >= roots | {f"{first}.roll_back"}


@pytest.mark.plan("All tests passing", "Phase 1: Pre-deployment validation", "Phase 5: Post-deployment testing")
def test_every_step_of_a_phase_is_evidence_for_its_branch(deployment):
    for phase in PHASES[:-1]:
        steps = {
            t.task_id for t in deployment.task_group_dict[phase].iter_tasks() if not isinstance(t, (Decide, RollBack))
        }
        assert set(deployment.get_task(f"{phase}.decide").reads) == steps


def test_no_step_of_a_phase_begins_behind_what_was_marked_by_hand(deployment):
    steps = [task for task in deployment.tasks if task.task_id.startswith("phase_") and isinstance(task, Founded)]
    assert [one.task_id for one in steps if set(one.rests_on) != one.upstream_task_ids] == []
    assert deployment.get_task("phase_1_pre_deployment.build_image").rests_on == ["open"]
    first = deployment.get_task("phase_2_application_deployment.window_open")
    assert first.rests_on == ["phase_1_pre_deployment.decide"]


def test_nothing_is_opened_before_a_second_person_has_agreed_to_what_is_overridden(deployment):
    opened, question = deployment.get_task("open"), deployment.get_task("second_person")
    assert opened.upstream_task_ids == {"second_person"} and opened.rests_on == ["second_person"]
    assert question.upstream_task_ids == {"release_due"} and question.asked.silence == REFUSE
    assert not question.defaults


def test_a_rollback_is_stopped_by_no_evidence(bag):
    assert not any(getattr(task, "rests_on", ()) for task in bag.dags["pms_rollback"].tasks)


def test_an_image_is_pinned_scanned_and_verified_before_it_is_deployed(deployment):
    group = "phase_2_application_deployment.deploy_new_version"
    before = deployment.get_task(f"{group}.deploy_idle_colour").get_flat_relative_ids(upstream=True)
    assert before >= {f"{group}.{step}" for step in ("image_present", "scan_image", "verify_signature")}
    for step in ("scan_image", "verify_signature"):
        assert f"{group}.image_present" in deployment.get_task(f"{group}.{step}").get_flat_relative_ids(upstream=True)
    tests = deployment.get_task("phase_1_pre_deployment.staging_verification.unit_tests")
    assert "phase_1_pre_deployment.build_image" in tests.upstream_task_ids


def test_no_failure_escapes_the_net(deployment):
    net = deployment.get_task("roll_back_on_failure")
    outside = set(deployment.task_ids) - net.upstream_task_ids - {net.task_id}
    assert outside == {*REFUSED_BY, "report", "publish_end", "end", *REMINDERS}


def test_what_belongs_to_no_phase_stands_folded_behind_them_under_its_own_name(bag, deployment):
    helpers = {"give_up", "report", "publish_end", "end", *REMINDERS}
    assert {task.task_id for task in deployment.task_group_dict[ASIDE].iter_tasks()} == helpers
    rollback = bag.dags["pms_rollback"].task_group_dict[ASIDE]
    assert {task.task_id for task in rollback.iter_tasks()} == {"report", "publish_end", "end"}
    shown = [child.node_id for child in deployment.task_group.topological_sort()]
    assert shown[:3] == ["release_due", "second_person", "open"]
    assert shown.index(ASIDE) > max(shown.index(phase) for phase in PHASES)


def test_every_step_after_opening_calls_back_on_failure(deployment):
    silent = {t.task_id for t in deployment.tasks if not t.on_failure_callback}
    assert silent == {*REFUSED_BY, "report", "publish_end", "end", *REMINDERS}
    assert deployment.on_failure_callback


@pytest.mark.plan("Day: Tuesday (mid-week, avoiding weekends)")
def test_phase_1_starts_two_hours_before_the_window(deployment):
    assert deployment.timetable.expression == "0 12 * * 2"
    assert not deployment.catchup


@pytest.mark.plan(
    "Review deployment plan with team",
    "Confirm all roles and responsibilities",
    "Test communication channels (Slack, conference call)",
    "Final Q&A",
    "Test via UI (if web app deployed)",
    "Test mobile access",
    "Test on various browsers",
    "Test from different geographic locations",
)
def test_nobody_answering_means_rollback(deployment):
    questions = [t for t in deployment.tasks if isinstance(t, Confirm)]
    assert [q.task_id.rpartition(".")[2] for q in questions] == ["team_briefing", "user_acceptance"]
    for question in questions:
        assert (question.asked.silence, question.defaults) == (ROLLBACK, None)
        assert question.assigned_users
        assert question.response_timeout


def test_every_question_is_reminded_of_beside_it_and_nothing_waits_for_that(deployment):
    questions = [t for t in deployment.tasks if isinstance(t, RoleQuestion)]
    reminders = {t.question: t for t in deployment.tasks if isinstance(t, Remind)}
    assert {t.task_id for t in reminders.values()} | {"reminded"} == REMINDERS
    assert reminders.keys() == {q.task_id for q in questions}
    for question in questions:
        assert reminders[question.task_id].upstream_task_ids == question.upstream_task_ids
        assert reminders[question.task_id].downstream_task_ids == {"reminded"}
    after = deployment.get_task("reminded")
    assert after.trigger_rule == TriggerRule.NONE_SKIPPED  # a leaf that never fails, and is skipped with the run
    assert after.downstream_task_ids == set()


def test_a_plan_without_reminders_has_no_tasks_for_them(plans):
    plan = yaml.safe_load((plans / "pms.yaml").read_text())
    del plan["asking"]
    (plans / "pms.yaml").write_text(yaml.safe_dump(plan))
    for dag in bag_of().dags.values():
        assert not [task for task in dag.task_ids if task.startswith("remind")]


@pytest.mark.parametrize(("name", "wanted"), [
    ("deployment", {"version", "reason", "method"}), ("readiness", {"version"}), ("announcements", {"version"}),
])  # fmt: skip
def test_a_form_wants_what_a_run_by_hand_cannot_do_without_and_folds_nothing_away(bag, name, wanted):
    """Airflow marks what may not be null, and lets nobody start a run while it is empty."""
    dag = bag.dags[f"pms_{name}"]
    form = {key: dag.params.get_param(key) for key in dag.params}
    assert {key for key, param in form.items() if param.schema.get("type", "string") == "string"} == wanted
    assert not [key for key, param in form.items() if "section" in param.schema]
    dag.params.validate()
    assert copy(form["version"]).resolve("v1.2.3") == "v1.2.3"
    with pytest.raises(ParamValidationError, match=r"Write it as v1\.2\.3"):
        copy(form["version"]).resolve("latest")
    assert {kind.value for kind in dag.allowed_run_types} == {"manual", "scheduled"}  # so no backfill is offered


def test_the_dry_run_has_the_deployments_form_and_nothing_that_changes(bag, deployment):
    dry = bag.dags["pms_dry_run"]
    assert dry.params.dump() == deployment.params.dump()
    summary = dry.get_task("summary")
    steps = [task for task in dry.tasks if task.task_id not in ("release", "summary")]
    assert all(isinstance(task, (Preview, Healthy, RecentErrors, ReplicationLag, DataChecks)) for task in steps)
    assert set(summary.reads) == {task.task_id for task in steps}
    assert summary.upstream_task_ids == set(summary.reads)
    assert not dry.timetable.can_be_scheduled
    assert not any(task.on_failure_callback for task in dry.tasks) and not dry.on_failure_callback


def test_rollback_moves_traffic_before_anything_else(bag):
    rollback = bag.dags["pms_rollback"]
    assert [task.task_id for task in rollback.roots] == ["move_traffic_back"]
    assert not rollback.is_paused_upon_creation
    assert not any(isinstance(task, RollBack) for task in rollback.tasks)


def test_data_is_touched_only_after_a_look_at_the_lock(bag):
    steps = (("pms_data_import", "import_rows"), ("pms_seed", "seed"), ("pms_data_migration", "check"))
    for dag_id, step in steps:
        dag = bag.dags[dag_id]
        assert [task.task_id for task in dag.roots] == ["nobody_deploys"]
        assert dag.get_task(step).upstream_task_ids == {"nobody_deploys"}
        assert dag.max_active_runs == 1
        assert not dag.timetable.can_be_scheduled


def test_the_form_of_an_import_takes_only_what_the_import_can_do(bag):
    form = bag.dags["pms_data_import"].params
    assert form["on_rejects"] == "abort"
    assert form.get_param("what").schema["enum"] == ["bookings"]
    assert "utf-8" in form.get_param("encoding").schema["enum"]


def test_a_plan_without_data_has_no_dags_for_it(plans):
    plan = yaml.safe_load((plans / "pms.yaml").read_text())
    del plan["data"]
    (plans / "pms.yaml").write_text(yaml.safe_dump(plan))
    assert sorted(bag_of().dags) == [f"pms_{dag}" for dag in DAGS if dag not in ("data_import", "seed")]


@pytest.mark.parametrize(("dag", "close", "others"), [
    ("pms_deployment", "phase_5_monitoring.close", {"watch"}), ("pms_rollback", "close", set()),
])  # fmt: skip
def test_whatever_becomes_of_the_report_the_run_ends_as_close_does(bag, dag, close, others):
    """A report that fails is red in the grid, and changes neither the state of the run nor anything behind it."""
    tasks = bag.dags[dag]
    end = tasks.get_task("end")
    assert end.upstream_task_ids == {close, "report", "publish_end"}
    assert end.trigger_rule == TriggerRule.ALL_DONE_MIN_ONE_SUCCESS
    assert tasks.get_task("report").downstream_task_ids == {"end"}
    assert tasks.get_task("report").upstream_task_ids == {close, *others}


def test_the_watch_begins_before_the_switch_and_no_phase_waits_for_its_end(bag):
    deployment = bag.dags["pms_deployment"]
    watch = deployment.get_task("watch")
    (before,) = watch.upstream_task_ids
    switch = before.replace("smoke_tests", "switch_traffic")
    assert switch in deployment.get_task(before).downstream_task_ids
    assert watch.downstream_task_ids == {"report", "roll_back_on_failure"}
    assert all("watch" not in task.reads for task in deployment.tasks if hasattr(task, "reads"))


def test_a_second_plan_gives_a_second_set_of_dags(plans):
    second = yaml.safe_load((plans / "pms.yaml").read_text())
    second["name"] = "billing"
    (plans / "billing.yaml").write_text(yaml.safe_dump(second))
    assert sorted(bag_of().dags) == dags_of("billing", "pms")


def test_a_broken_plan_is_an_import_error_and_leaves_the_other_plans_alone(plans):
    broken = yaml.safe_load((plans / "pms.yaml").read_text())
    broken["name"], broken["thresholds"]["max_error_rate"] = "billing", 2
    (plans / "billing.yaml").write_text(yaml.safe_dump(broken))
    bag = bag_of()
    assert sorted(bag.dags) == dags_of("pms")
    (file, text), *others = bag.import_errors.items()
    assert (file, others) == ("deployment.py", [])
    assert re.search(r"billing\.yaml:\n.*thresholds\.max_error_rate: Input should be less than or equal to 1", text)


def test_parsing_opens_no_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a DAG file opened a connection while it was parsed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert bag_of().import_errors == {}


def test_dag_files_hold_names_and_order_only():
    for path in (ROOT / "dags").glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) < 200, path
        assert not re.search(r"\b(if|while|try|lambda|await|requests|os\.environ)\b", text), path


def test_everything_but_the_frame_is_a_step_with_evidence(deployment):
    frame = {type(task).__name__ for task in deployment.tasks if not isinstance(task, Step)}
    questions = {"SecondPerson", "Confirm", "FixOrRollback", "Remind"}
    assert frame == {"ReleaseDue", "GiveUp", "Decide", "RollBack", "PublishEnd", "EmptyOperator"} | questions


@pytest.mark.parametrize(
    ("name", "opened_by"),
    [("deployment", "open"), ("rollback", "move_traffic_back"), ("dry_run", "release"), ("readiness", "release"),
     ("announcements", "release"), ("followups", "deployment_ended")],
)  # fmt: skip
def test_every_task_reads_what_the_first_one_of_its_own_dag_has_left(bag, name, opened_by):
    dag = bag.dags[f"pms_{name}"]
    assert dag.has_task(opened_by)
    assert {task.opened_by for task in dag.tasks if getattr(task, "opened_by", "")} == {opened_by}


def test_a_step_that_is_fenced_out_is_never_tried_again(bag):
    steps = [task for dag in bag.dags.values() for task in dag.tasks if isinstance(task, Step)]
    assert steps
    for step in steps:
        assert step.retry_policy.evaluate(FencedOut("over"), 1, 5).action is RetryAction.FAIL
        assert step.retry_policy.evaluate(KubeError(0, "no answer"), 1, 5).action is not RetryAction.FAIL
