"""One maintenance for a release and one incident for a rollback: created once, then updated, never reopened."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from handover.adapters.status_page import StatusPage, changes
from handover.models.deployment import DeploymentState, Status
from handover.models.message import Announced, Letter, PageUpdate
from handover.people import announcements, channels, messages
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from tests.support.task import Ti, context_of
from tests.support.web import Answer, serving

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
NOW = 1_795_010_400.0


def letter(status, at=NOW, key="", **more):
    page = PageUpdate(**({"status": status, "version": "v1.1.0", "deployment": "run"} | more))
    return Letter(key=key or f"{status} {at}", kind="status page", text=status, page=page, at=at)


class Page:
    """The page as Statuspage would have it, without the network."""

    def __init__(self):
        self.incidents = []

    def show(self, one):
        for change in changes(PLAN, one, list(reversed(self.incidents))):
            if change.id:
                (known,) = (i for i in self.incidents if i["id"] == change.id)
                known |= change.incident
            else:
                self.incidents.append({"id": f"i{len(self.incidents)}"} | change.incident)
        return self.states

    @property
    def states(self):
        return [one["status"] for one in self.incidents]


def shown(*letters):
    page = Page()
    for one in letters:
        page.show(one)
    return page


def announced(status="scheduled", **more):
    return letter(status, deployment="", opens=NOW + 600, closes=NOW + 15_000, **more)


@pytest.mark.plan("Create maintenance page (if needed)", "Status page: Update with deployment information")
def test_a_release_is_one_maintenance_from_its_announcement_to_its_end():
    page = shown(announced(), letter("in_progress"), letter("completed"))
    assert page.states == ["completed"]
    assert page.incidents[0]["scheduled_for"] == "2026-11-18T14:10:00Z"


@pytest.mark.plan("Update status page")
def test_a_rollback_is_an_incident_of_its_own_and_ends_both():
    page = shown(announced(), letter("in_progress"), letter("investigating"))
    assert page.states == ["in_progress", "investigating"]
    assert page.show(letter("resolved")) == ["completed", "resolved"]


def test_an_incident_that_was_fixed_is_resolved_when_the_deployment_is_completed():
    assert shown(letter("in_progress"), letter("investigating"), letter("completed")).states == [
        "completed", "resolved",
    ]  # fmt: skip


def test_the_same_letter_twice_is_once():
    page = shown(letter("in_progress"))
    before = [dict(one) for one in page.incidents]
    page.show(letter("in_progress"))
    assert page.incidents == before


@pytest.mark.parametrize("late", ["in_progress", "investigating", "scheduled"])
def test_a_letter_that_comes_late_reopens_nothing(late):
    end = "resolved" if late == "investigating" else "completed"
    assert shown(letter(end, at=NOW + 60), letter(late, at=NOW)).states == [end]


def test_a_late_start_does_not_take_back_the_rollback():
    page = shown(letter("in_progress"), letter("investigating"), letter("resolved", at=NOW + 9))
    assert page.show(letter("investigating", key="other")) == ["completed", "resolved"]


def test_a_second_rollback_long_after_the_first_incident_is_a_new_one():
    page = shown(letter("investigating"), letter("resolved", at=NOW + 9), letter("investigating", at=NOW + 99))
    assert page.states == ["resolved", "investigating"]


def test_another_deployment_of_that_version_is_another_maintenance():
    page = shown(letter("in_progress"), letter("completed"), letter("in_progress", deployment="second"))
    assert page.states == ["completed", "in_progress"]


def test_a_deployment_takes_over_only_what_was_announced_of_its_version():
    page = shown(announced(version="v2.0.0"), letter("in_progress"))
    assert page.states == ["scheduled", "in_progress"]


def test_a_cancelled_release_is_completed_and_can_be_announced_again():
    page = shown(announced(), announced("completed", at=NOW + 5))
    assert page.states == ["completed"]
    assert page.show(announced(at=NOW + 9)) == ["completed", "scheduled"]


def test_incidents_of_others_are_never_touched():
    page = Page()
    page.incidents = [{"id": "x", "status": "investigating"}, {"id": "y", "status": "scheduled", "metadata": {"a": 1}}]
    page.show(letter("in_progress"))
    assert page.show(letter("completed")) == ["investigating", "scheduled", "completed"]


def test_an_incident_has_no_schedule_and_a_maintenance_has_one():
    page = shown(letter("in_progress"), letter("investigating"))
    assert ["scheduled_for" in one for one in page.incidents] == [True, False]


STATE = DeploymentState(
    deployment="deployment-1", generation=1, status=Status.DEPLOYING, version="v1.1.0", image="i",
    previous_version="v1.0.0", previous_image="j", stable="blue", preview="green", reason="r", started_at=0.0,
)  # fmt: skip


def test_a_whole_life_over_http_with_states_that_each_kind_takes(told):
    """The recorder refuses a state of the other kind, as Statuspage does."""
    state = STATE.model_copy(update={"deployment": f"deployment-{time.time()}", "version": f"v1.1.{int(time.time())}"})
    met = state.model_copy(update={"switched_at": NOW})
    release = Announced(version=state.version, opens=NOW, closes=NOW + 4 * 3600)
    said = [
        announcements.status_scheduled(PLAN, release), messages.started(PLAN, state),
        messages.taken_back(PLAN, met), messages.rolled_back(PLAN, met),
    ]  # fmt: skip
    for number, message in enumerate(said):
        assert channels.tell(context_of(Ti(f"task{number}")), PLAN, message) == []
    calls = [(c["method"], c["body"]["incident"]["status"]) for c in told("statuspage", "POST", "PATCH")]
    assert calls == [
        ("POST", "scheduled"), ("PATCH", "in_progress"), ("POST", "investigating"), ("PATCH", "resolved"),
        ("PATCH", "completed"),
    ]  # fmt: skip
    listed = httpx.get(f"{told.url}/statuspage/v1/pages/pms/incidents", trust_env=False).json()
    mine = [one for one in listed if one["metadata"]["pms"]["version"] == state.version]
    assert sorted(one["status"] for one in mine) == ["completed", "resolved"]
    unresolved = httpx.get(f"{told.url}/statuspage/v1/pages/pms/incidents/unresolved", trust_env=False).json()
    assert not [one for one in unresolved if one in mine]


@pytest.mark.parametrize(
    ("extra", "sent"), [({}, "Bearer key"), ({"authorization_scheme": "OAuth"}, "OAuth key")]
)  # fmt: skip
def test_the_key_is_shown_as_the_connection_says(monkeypatch, extra, sent):
    with serving(lambda asked: Answer(200, [])) as web:
        connection = {"conn_type": "http", "host": web.url, "password": "key", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_STATUS_PAGE", json.dumps(connection))
        StatusPage(PLAN).deliver(letter("in_progress"), look=False)
    assert [(one.method, one.headers["authorization"]) for one in web.asked] == [("GET", sent), ("POST", sent)]


@pytest.mark.parametrize("listed", [None, {}, "nonsense", ["x", {"id": "a"}, {"id": "b", "metadata": {"pms": 3}}]])
def test_a_page_that_answers_nonsense_gets_a_new_entry(monkeypatch, listed):
    with serving(lambda asked: Answer(200, listed if asked.method == "GET" else {})) as web:
        connection = {"conn_type": "http", "host": web.url, "password": "key"}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_STATUS_PAGE", json.dumps(connection))
        StatusPage(PLAN).deliver(letter("in_progress"), look=False)
    assert [one.method for one in web.asked] == ["GET", "POST"]
