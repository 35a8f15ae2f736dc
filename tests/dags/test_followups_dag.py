"""The follow-ups: started by the end of a deployment or a rollback, in the groups of the plan."""

from __future__ import annotations

import pytest
import yaml
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import TriggerRule

from handover.people.answers import NOT_ANSWERED
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE
from handover.record import checklist
from handover.workflows.followups.steps import Ask, Due
from tests.support.dags import bag_of

GROUPS = ["after_4_hours", "within_24_hours", "within_1_week"]


@pytest.fixture
def bag(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag


@pytest.fixture
def dag(bag):
    return bag.dags["pms_followups"]


def test_only_a_good_end_of_either_dag_publishes_the_asset_that_starts_it(bag, dag):
    publishing = {name: t.outlets for name in bag.dags for t in bag.dags[name].tasks if t.outlets}
    assert publishing.keys() == {"pms_deployment", "pms_rollback"}
    (asset,) = dag.timetable.asset_condition.objects
    assert all([o.name for o in outlets] == [asset.name] for outlets in publishing.values())
    assert asset.name == "pms_deployment_ended"


def test_the_groups_are_those_of_the_plan_and_each_waits_for_its_time(dag):
    assert [g for g in dag.task_group_dict if g] == GROUPS
    for group in GROUPS:
        due, log = dag.get_task(f"{group}.due"), dag.get_task(f"{group}.update_deployment_log")
        steps = {t.task_id for t in dag.task_group_dict[group].iter_tasks()} - {log.task_id}
        assert isinstance(due, Due) and log.upstream_task_ids == steps
        assert log.trigger_rule == TriggerRule.ALL_DONE  # the other rule skips behind a ticket that nobody needs
    assert [dag.get_task(f"{g}.due").seconds for g in GROUPS] == [14400, 14400, 604800]


@pytest.mark.plan(
    "Post-mortem meeting (if any issues)", "Update runbooks and processes", "Plan next improvements/features"
)
def test_tickets_and_invitations_of_the_week_go_out_at_once(dag):
    at_once = dag.get_task("deployment_ended").downstream_task_ids - {f"{g}.due" for g in GROUPS}
    week = ("post_mortem", "post_mortem_meeting", "update_runbooks", "next_improvements")
    assert at_once == {"within_24_hours.review_meeting", *(f"within_1_week.{task}" for task in week)}


@pytest.mark.plan(
    "Monitor support channels for issues",
    "Check social media for complaints",
    "Team debriefing: What went well? Any issues?",
    "Monitor for 2-4 more hours (skeleton crew)",
    "Full post-deployment review",
    "All monitoring dashboards healthy",
)
def test_silence_is_never_a_yes_and_no_wait_is_cut_short(dag):
    asked = [task for task in dag.tasks if isinstance(task, Ask)]
    assert {task.role for task in asked} == {"lead", "qa", "frontend", "devops"}
    assert all(task.defaults == [NOT_ANSWERED] and task.response_timeout for task in asked)
    assert all({*task.serialized_params} == {*task.fields} for task in asked)
    assert all(task.execution_timeout is None for task in dag.tasks)


def test_the_checklist_names_tasks_that_are_there(dag):
    found = checklist.load("checklist.yaml")
    named = {p for s in found.sections for g in s.groups for line in g.lines for p in line.followups}
    assert len(named) == 9 and all(dag.has_task(task) for task in named)


def test_a_plan_without_the_section_has_no_followups_and_publishes_nothing(tmp_path, monkeypatch):
    plan = yaml.safe_load((INCLUDE / "plans" / "pms.yaml").read_text())
    del plan["followups"]
    (tmp_path / "pms.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    bag = bag_of()
    assert bag.import_errors == {} and "pms_followups" not in bag.dags
    assert not any(task.outlets for dag in bag.dags.values() for task in dag.tasks)


def test_every_free_text_of_a_question_may_stay_empty(dag_bag):
    questions = [task for dag in dag_bag.dags.values() for task in dag.tasks if isinstance(task, HITLOperator)]
    fields = [(task.task_id, name, task.params.get_param(name).schema) for task in questions for name in task.params]
    free = [(task, name, schema) for task, name, schema in fields if "enum" not in schema]
    assert len(free) > 10
    assert [(task, name) for task, name, schema in free if "null" not in schema["type"]] == []
