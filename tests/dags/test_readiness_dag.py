"""The readiness DAG: a group per section, a task per line, one question per role, and one verdict."""

from __future__ import annotations

import shutil

import pytest
import yaml
from airflow.sdk import TriggerRule

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE
from handover.readiness import asked
from handover.readiness.checklist import load
from handover.workflows.dags import ASIDE
from handover.workflows.readiness.steps import AskRole, Conclude
from tests.support.dags import DAGS, bag_of

CHECKLIST = load(load_plan(INCLUDE / "plans" / "pms.yaml"))


@pytest.fixture
def dag(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags["pms_readiness"]


def test_it_runs_48_hours_before_the_window(dag):
    assert dag.timetable.expression == "0 14 * * 0"
    assert not dag.catchup and not dag.is_paused_upon_creation


def test_each_section_is_a_group_and_each_line_a_task(dag):
    assert [g for g in dag.task_group_dict if g] == [*(s.id for s in CHECKLIST.sections), "people", ASIDE]
    tasks = dag.get_task("conclude").tasks
    assert list(tasks) != [] and tasks.keys() == {leaf.id for leaf in CHECKLIST.leaves}
    for section in CHECKLIST.sections:
        for leaf in section.leaves:
            assert tasks[leaf.id] == (f"people.{leaf.owner}" if leaf.ask else f"{section.id}.{leaf.id}")
            assert dag.has_task(tasks[leaf.id])


def test_the_verdict_waits_for_all_and_no_check_for_another_but_the_backups(dag):
    conclude = dag.get_task("conclude")
    assert isinstance(conclude, Conclude)
    assert conclude.upstream_task_ids == {task for task in dag.task_ids if not task.startswith("remind")} - {"conclude"}
    assert conclude.trigger_rule == TriggerRule.ALL_DONE_MIN_ONE_SUCCESS
    waiting = {
        t.label for t in dag.tasks if t.label not in ("conclude", "reminded") and t.upstream_task_ids - {"release"}
    }
    assert waiting == {"current_backup", "backup_location", "backup_encryption", "recovery_targets", "rehearsal"}


def test_a_question_names_its_lines_its_role_and_a_deadline(dag):
    questions = [task for task in dag.tasks if isinstance(task, AskRole)]
    above = {"lead": ["cto"], "devops": ["lead"], "frontend": ["lead"]}
    assert {task.role for task in questions} == above.keys()
    for task in questions:
        assert {*task.serialized_params} == {*(line.id for line in task.lines), asked.COMMENT}
        assert all(task.params[line.id] == asked.NOT_KNOWN for line in task.lines)
        assert [user["id"] for user in task.assigned_users] == [task.role, *above[task.role]]
        assert task.response_timeout


def test_a_broken_checklist_is_an_import_error_of_this_file_only(tmp_path, monkeypatch):
    data = yaml.safe_load((INCLUDE / "readiness" / "pms.yaml").read_text())
    data["sections"][0]["lines"][0]["owner"] = "nobody"
    (tmp_path / "readiness").mkdir()
    (tmp_path / "readiness" / "pms.yaml").write_text(yaml.safe_dump(data))
    shutil.copytree(INCLUDE / "plans", tmp_path / "plans")
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    shutil.copytree(DAGS, tmp_path / "dags")
    bag = bag_of(tmp_path / "dags")
    assert "pms_deployment" in bag.dags and "pms_readiness" not in bag.dags
    ((file, text),) = bag.import_errors.items()
    assert file.endswith("readiness.py") and "no role nobody" in text
