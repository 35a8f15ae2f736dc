"""The announcements of a release: three moments in the plan's order, and nothing that a message could hold up."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from handover.people import announcements as wording
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.announcements.steps import AskToConfirm, Moment, TellOf
from handover.workflows.redelivery.steps import HandOver, Redeliver

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ["one_week_before", "day_before", "day_of_deployment"]


@pytest.fixture
def dags(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags


@pytest.fixture
def dag(dags):
    return dags["pms_announcements"]


def test_it_begins_one_week_before_the_window(dag):
    assert dag.timetable.expression == "0 14 * * 2"
    assert not dag.catchup and not dag.is_paused_upon_creation
    assert dag.max_active_runs > 1


@pytest.mark.plan("Slack announcement: Deployment starting (T-15 min)")
def test_the_moments_are_those_of_the_plan_in_its_order(dag):
    assert [g for g in dag.task_group_dict if g] == GROUPS
    moments = [dag.get_task(f"{group}.moment") for group in GROUPS]
    assert [m.before_seconds for m in moments] == [604_800, 86_400, 900]
    assert moments[0].upstream_task_ids == {"release"}
    for first, second in itertools.pairwise(moments):
        assert second.upstream_task_ids == {first.task_id}


def test_no_message_and_no_question_holds_up_the_next_moment(dag):
    for task in dag.tasks:
        if isinstance(task, (TellOf, AskToConfirm)):
            assert not task.downstream_task_ids
            assert len(task.upstream_task_ids) == 1


@pytest.mark.plan(
    "Email to stakeholders: Deployment scheduled",
    "Email to users: Maintenance window planned",
    "Status page: Update with deployment information",
    "Slack reminder to team",
)
def test_every_line_of_the_communication_plan_before_the_deployment_is_a_task(dag):
    told = {t.task_id: t.message for t in dag.tasks if isinstance(t, TellOf)}
    assert told == {
        "one_week_before.email_stakeholders": wording.deployment_scheduled,
        "one_week_before.email_users": wording.maintenance_planned,
        "one_week_before.status_page": wording.status_scheduled,
        "day_before.remind_team": wording.reminder,
        "day_of_deployment.announce_starting": wording.starting,
    }
    asked = {t.task_id for t in dag.tasks if isinstance(t, AskToConfirm)}
    assert asked == {"day_before.team_available", "day_before.window_confirmed"}


def test_waiting_takes_no_worker(dag):
    assert sum(isinstance(task, Moment) for task in dag.tasks) == 3
    assert all(not hasattr(task, "poke") for task in dag.tasks)


def test_questions_hand_over_what_they_could_not_tell(dags):
    for dag_id in ("pms_announcements", "pms_deployment", "pms_followups", "pms_readiness"):
        questions = [task for task in dags[dag_id].tasks if hasattr(task, "response_timeout")]
        assert questions
        for task in questions:
            assert [type(one) for one in task.notifiers] == [HandOver]


def test_a_redelivery_is_one_task_that_is_tried_again(dags):
    dag = dags["pms_redelivery"]
    (task,) = dag.tasks
    assert isinstance(task, Redeliver)
    assert not dag.timetable.can_be_scheduled and not dag.is_paused_upon_creation
    assert task.retries > 10 and task.retry_exponential_backoff == 2


def test_the_form_refuses_what_is_no_version(dag):
    form = dag.params
    assert form.get_param("version").schema["pattern"]
    assert form.get_param("window_start").schema["format"] == "date-time"


def test_the_sandbox_has_the_same_moments_in_less_time():
    rules = load_plan(INCLUDE / "plans" / "pms.yaml", ROOT / "sandbox" / "overlay.yaml").announcements
    assert rules.week_before_seconds <= 60
    assert rules.retry_for_seconds <= 120
