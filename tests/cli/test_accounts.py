"""What the command `accounts` takes; what it does is tried on Airflow's own API, tests/access."""

from __future__ import annotations

import json

import pytest

from handover.adapters.accounts import Account
from handover.cli.accounts import Refused, machines, missing, people, problems
from handover.plan.airflow_roles import automation, roles_of
from handover.plan.model import Plan
from tests.support.plans import PMS

PLAN = Plan.model_validate(PMS)
OTHER = PLAN.model_copy(update={"name": "other"})
VIEWER = frozenset({"Viewer"})


def given(**people: object) -> str:
    return json.dumps(people)


def person(password="long enough it is", roles=("Viewer",), **more):
    return {"password": password, "roles": list(roles), **more}


def test_people_have_the_roles_and_the_first_password_that_is_given():
    assert people(given(anna=person())) == [Account("anna", "long enough it is", VIEWER)]
    assert people("") == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (given(ben=person("short")), "ben.password"),
        (given(ben=person(roles=())), "ben.roles"),
        (given(ben=person(admin=True)), "ben.admin"),
        (given(**{"b n": person()}), "b n"),
        (given(**{"x" * 65: person()}), "x" * 65),
        ('["ben"]', "Input should be"),
        ("{not JSON", "Invalid JSON"),
    ],
)
def test_what_cannot_be_read_is_named_and_never_repeated(text, where):
    with pytest.raises(Refused) as refused:
        people(text)
    assert where in str(refused.value) and "long enough" not in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([Account("ben", "p", frozenset({"captain"}))], "ben: there is no role captain"),
        ([Account("ben", "p", VIEWER), Account("ben", "q", VIEWER, follows=True)], "ben is there twice"),
        ([Account("BOSS", "p", VIEWER)], "BOSS: there is boss"),
        (
            [Account("boss", "p", VIEWER, follows=True)],
            "boss is the login of a connection, and somebody with other roles",
        ),
    ],
)
def test_nobody_takes_the_account_of_somebody_else(wanted, said):
    there = {"boss": frozenset({"Admin"})}
    assert any(said in one for one in problems(wanted, there, {"Viewer", "Admin"}))


def test_what_is_there_as_it_should_be_is_no_problem():
    wanted = [Account("ben", "p", VIEWER), Account("machine", "q", VIEWER, follows=True)]
    assert not list(problems(wanted, {"ben": VIEWER, "machine": VIEWER}, {"Viewer"}))


def connection(monkeypatch, **settings: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps({"conn_type": "http", **settings}))


def test_plans_that_share_a_connection_share_its_account(monkeypatch):
    connection(monkeypatch, login="machine", password="one")
    roles = VIEWER | {automation(PLAN), automation(OTHER)}
    assert machines([PLAN, OTHER]) == [Account("machine", "one", roles, follows=True)]


@pytest.mark.parametrize("settings", [{"login": "machine"}, {"password": "one"}])
def test_a_connection_without_login_or_password_is_refused(monkeypatch, settings):
    connection(monkeypatch, **settings)
    with pytest.raises(Refused, match="connection pms_airflow has no login, or no password"):
        machines([PLAN])


def test_who_is_asked_by_a_plan_and_cannot_answer_is_named():
    said = missing([PLAN], {"lead": VIEWER})
    assert "lead is asked by plan pms (lead), and may not answer" in said
    assert "qa is asked by plan pms (qa), and has no account" in said


def test_no_role_of_one_plan_is_of_another():
    assert not set(roles_of(PLAN)) & set(roles_of(OTHER))


def test_no_role_may_change_what_only_the_admin_does():
    for name, rights in roles_of(PLAN).items():
        for action, what in rights - {("can_read", "Website")}:
            assert ":pms_" in what or action == "menu_access", (name, action, what)
            assert what.partition(":")[0] in {"DAG Run", "HITL Detail", "Task Instances"}
