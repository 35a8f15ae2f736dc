"""The DAGs of a service that has little: each step that has nothing to do passes, and says why."""

from __future__ import annotations

import itertools

import pytest
import yaml

from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import Release
from handover.plan.model import Plan
from handover.plan.parts import PLANS_VARIABLE
from handover.step import Step
from handover.workflows.readiness.checks import DataChecks
from tests.support.dags import bag_of
from tests.support.plans import bare, without

SQL_CHECKS = ("schema_check", "integrity_checks", "critical_queries")


@pytest.fixture
def bag(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(bare() | {"name": "web"}))
    return bag_of()


def left_out(bag, dag_id: str) -> set[str]:
    tasks = bag.dags[dag_id].tasks
    return {task.task_id.rpartition(".")[2] for task in tasks if isinstance(task, Step) and task.left_out()}


def test_every_dag_that_it_has_is_there_without_errors(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [f"web_{dag}" for dag in ("deployment", "dry_run", "readiness", "rollback", "watchdog")]


def test_what_the_plan_has_not_is_left_out_and_nothing_else(bag):
    assert left_out(bag, "web_deployment") == {
        "staging_health", "recent_errors", "backup", "test_restore", "banner", "smoke_tests", "database_health",
        "error_tracker", "replication_lag", "schema_check", "restore_point", "execute_migration", "data_integrity",
        "old_version_on_new_schema", "client_check", "critical_paths", "report",
    }  # fmt: skip
    assert left_out(bag, "web_rollback") == {
        "roll_back_database", "database_health", "smoke_tests", "banner", "report", "report_of_failure",
    }  # fmt: skip
    assert left_out(bag, "web_dry_run") == {
        "staging_health", "recent_errors", "replication_lag", "data_checks", "execute_migration"
    }  # fmt: skip


class Left(dict):
    """What a task leaves."""

    def xcom_push(self, key, value):
        self[key] = value

    def xcom_pull(self, task_ids=None, key=""):
        release = Release(version="v1.1.0", image="web:v1.1.0", reason="test")
        return {"release": release.model_dump(), "fencing_token": {}}.get(key)


def test_such_a_step_passes_and_says_so(bag):
    dag = bag.dags["web_deployment"]
    for task in dag.tasks:
        if isinstance(task, Step) and (why := task.left_out()):
            task.watched_in = None
            left = Left()
            assert task.execute({"ti": left, "run_id": "run", "params": {}}) == why
            assert left[EVIDENCE_KEY]["verdict"] == "pass"
            assert left[EVIDENCE_KEY]["reason"].startswith("left out: the plan has no ")


def test_a_migration_without_sql_checks_has_none_that_could_fail():
    plan = Plan.model_validate(without(*(f"migration.{one}" for one in SQL_CHECKS)))
    step = DataChecks(task_id="data_checks", plan=plan)
    assert step.left_out() == "left out: the plan has no schema_check, integrity_checks or critical_queries"
    for kept in SQL_CHECKS:
        plan = Plan.model_validate(without(*(f"migration.{one}" for one in SQL_CHECKS if one != kept)))
        assert DataChecks(task_id="data_checks", plan=plan).left_out() == ""


def test_a_whole_plan_leaves_nothing_out(dag_bag):
    assert not {dag_id: found for dag_id in dag_bag.dags if (found := left_out(dag_bag, dag_id))}


def test_a_migration_that_comes_first_is_phase_3_before_phase_2_and_waits_for_the_window(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    plan = without("nothing") | {"name": "web"}
    plan["migration"] |= {"before_cutover": True}
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(plan))
    dag = bag_of().dags["web_deployment"]
    phases = ["phase_1_pre_deployment", "phase_3_database_migration", "phase_2_application_deployment"]
    for phase, then in itertools.pairwise([*phases, "phase_4_post_deployment_testing"]):
        assert dag.get_task(f"{phase}.decide").proceed_to == then
    before = dag.get_task("phase_3_database_migration.pre_migration_validation.schema_check").upstream_task_ids
    assert "phase_3_database_migration.window_open" in before
    assert dag.get_task("phase_3_database_migration.execute_migration").watched_in is None
