"""Who may do what (the table of docs/security.md, row by row), and how people sign in: on Airflow's own API with the
auth manager, the settings and the roles that are shipped.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest

from sandbox.settings import REPOSITORY
from tests.support.airflow_api import ASKED, AUTOMATION, DEPLOYMENT, JWT_SECRET, QUEUED, Api, running, sign_in
from tests.support.postgres import Servers

pytestmark = pytest.mark.slow
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
PEOPLE = {
    "viewer": ["Viewer"],
    "deployer": ["Viewer", "pms_deployer"],
    "approver": ["Viewer", "pms_approver"],
    "rollback": ["Viewer", "pms_rollback"],
    "data": ["Viewer", "pms_data"],
    "admin": ["Admin"],
}
"""One for each column, with the role of that name alone."""
RUN = f"/api/v2/dags/pms_deployment/dagRuns/{ASKED}"
OPEN = f"{RUN}/taskInstances/open"
_number = itertools.count()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Api]:
    with running(tmp_path_factory.mktemp("airflow"), servers.new("owner"), PEOPLE) as api:
        yield api


@pytest.fixture(scope="module")
def clients(api: Api) -> dict[str, httpx.Client]:
    return {name: api.client(name) for name in [*PEOPLE, AUTOMATION[0]]}


def table(page: str) -> dict[str, dict[str, str]]:
    """Action to column to what stands there, of the table that begins with "action"."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    begin = next(number for number, row in enumerate(rows) if row[0] == "action")
    header = rows[begin]
    body = itertools.takewhile(lambda row: len(row) == len(header), rows[begin + 2 :])
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in body}


@dataclass(frozen=True)
class Action:
    """``path`` and ``body`` may depend on who asks, and are then functions of the client and its name. ``done``: what
    it answers to whoever may."""

    method: str
    path: str | Callable[[httpx.Client, str], str]
    body: Any = None
    done: frozenset[int] = frozenset({200, 201, 204})

    def by(self, client: httpx.Client, name: str) -> int:
        path = self.path if isinstance(self.path, str) else self.path(client, name)
        body = self.body() if callable(self.body) else self.body
        return client.request(self.method, path, json=body).status_code


def start(dag: str, **conf: Any) -> Action:
    return Action("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})


def question(kind: str) -> Callable[[httpx.Client, str], str]:
    def path(client: httpx.Client, name: str) -> str:
        found = client.get(f"{RUN}/hitlDetails", params={"limit": 100}).json()["hitl_details"]
        task = next(one["task_instance"]["task_id"] for one in found if one["subject"] == f"{kind} {name}")
        return f"{RUN}/taskInstances/{task}/-1/hitlDetails"

    return path


ANSWER = {"chosen_options": ["Proceed"], "params_input": {}}
WITHOUT_A_CLUSTER = frozenset({503})
ACTIONS = {
    "see runs": Action("GET", "/api/v2/dags/pms_deployment/dagRuns"),
    "see what steps left (XComs)": Action("GET", f"{OPEN}/xcomEntries"),
    "see logs": Action("GET", f"{OPEN}/logs/1", done=frozenset({200, 404})),
    "see where traffic is": Action("GET", "/handover/plans/pms", done=WITHOUT_A_CLUSTER),
    "see connections": Action("GET", "/api/v2/connections"),
    "see variables": Action("GET", "/api/v2/variables"),
    "see the configuration": Action("GET", "/api/v2/config"),
    "see users and roles": Action("GET", "/auth/fab/v1/users"),
    "start a deployment": start("pms_deployment", **DEPLOYMENT),
    "start a dry run": start("pms_dry_run", **DEPLOYMENT),
    "start a readiness run": start("pms_readiness", version="v1.1.0"),
    "start announcements": start("pms_announcements", version="v1.1.0"),
    "start follow-ups by hand": start("pms_followups"),
    "start a backfill": Action(
        "POST", "/api/v2/backfills",
        {"dag_id": "pms_deployment", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
        done=frozenset({400}),  # none of these has a schedule
    ),
    "start the rollback": start("pms_rollback", reason="because of the test"),
    "roll back now": Action("POST", "/handover/plans/pms/rollback", {"reason": "of the test"}, done=WITHOUT_A_CLUSTER),
    "start an import": start("pms_data_import"),
    "start a seed": start("pms_seed"),
    "start a data migration": start("pms_data_migration"),
    "pause or give up a data migration": start("pms_data_migration_control", table="nights", action="abort"),
    "send a message again": start("pms_redelivery"),
    "answer what one is asked": Action("PATCH", question("own"), ANSWER),
    "answer what somebody else is asked": Action("PATCH", question("other"), ANSWER),
    "write a run's note": Action("PATCH", RUN, {"note": "seen"}),
    "mark a run": Action("PATCH", "/api/v2/dags/pms_deployment/dagRuns/nothing", {"state": "failed"}, frozenset({404})),
    "delete a run": Action("DELETE", "/api/v2/dags/pms_deployment/dagRuns/nothing", done=frozenset({404})),
    "mark a task": Action("PATCH", OPEN, {"new_state": "success"}, done=frozenset({200, 409})),
    "mark many tasks": Action(
        "PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances",
        {"actions": [{"action": "update", "entities": [
            {"dag_id": "pms_deployment", "dag_run_id": ASKED, "task_id": "open", "new_state": "success"}]}]},
    ),
    "clear a task": Action(
        "POST", "/api/v2/dags/pms_deployment/clearTaskInstances",
        {"dry_run": False, "dag_run_id": ASKED, "task_ids": ["open"], "only_failed": False, "reset_dag_runs": False},
    ),
    "clear a run": Action("POST", f"{RUN}/clear", {"dry_run": True}),
    "write an XCom": Action(
        "POST", f"{OPEN}/xcomEntries", lambda: {"key": f"evidence{next(_number)}", "value": {}, "map_index": -1}
    ),
    "change an XCom": Action("PATCH", f"{OPEN}/xcomEntries/nothing", {"value": {}, "map_index": -1}, frozenset({404})),
    "delete an XCom": Action("DELETE", f"{OPEN}/xcomEntries/nothing", done=frozenset({404})),
    "write a variable": Action("POST", "/api/v2/variables", lambda: {"key": f"key{next(_number)}", "value": "1"}),
    "write a connection": Action(
        "POST", "/api/v2/connections", lambda: {"connection_id": f"id{next(_number)}", "conn_type": "http"}
    ),
    "write a pool": Action("POST", "/api/v2/pools", lambda: {"name": f"pool{next(_number)}", "slots": 1}),
    "pause a DAG": Action("PATCH", "/api/v2/dags/pms_rollback", {"is_paused": False}),
    "delete a DAG": Action("DELETE", "/api/v2/dags/nothing", done=frozenset({404})),
    "make a user": Action("POST", "/auth/fab/v1/users", {}, done=frozenset({422})),
    "make a role": Action("POST", "/auth/fab/v1/roles", {}, done=frozenset({422})),
}  # fmt: skip
TABLE = table(PAGE)


def test_the_page_and_the_test_know_the_same_actions_and_columns():
    assert list(TABLE) == list(ACTIONS)
    assert all(set(row) == {*PEOPLE, AUTOMATION[0]} for row in TABLE.values())
    assert {cell for row in TABLE.values() for cell in row.values()} == {"yes", "-"}


@pytest.mark.parametrize("name", ACTIONS)
def test_airflow_allows_what_the_page_says(clients, name):
    action, found = ACTIONS[name], {}
    for column, client in clients.items():
        status = action.by(client, column)
        assert status == 403 or status in action.done, (column, status)
        found[column] = "-" if status == 403 else "yes"
    assert found == TABLE[name]


def test_whoever_is_not_signed_in_is_refused_all_of_it(api):
    with api.client() as nobody:
        found = {name: one.by(nobody, "") for name, one in ACTIONS.items() if isinstance(one.path, str)}
    assert set(found.values()) == {401}


# --- signing in


def test_wrong_passwords_are_slowed_and_only_for_who_sends_them(api):
    with api.client(address="127.0.0.2") as thief, api.client() as owner:
        tried = [sign_in(thief, "admin", f"guess {number}").status_code for number in range(12)]
        assert tried == [401] * 10 + [429] * 2
        assert sign_in(thief, "admin", api.passwords["admin"]).status_code == 429
        assert sign_in(owner, "admin", api.passwords["admin"]).status_code == 201


def test_the_page_to_sign_in_is_slowed_as_well(api):
    with api.client(address="127.0.0.3") as thief:
        page = thief.get("/auth/login/").text
        token = page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
        form = {"username": "admin", "password": "a guess", "csrf_token": token}
        tried = [thief.post("/auth/login/", data=form).status_code for _ in range(8)]
    assert tried[0] in (200, 302) and tried[-1] == 429


def signed(owner: str, secret: str = JWT_SECRET, **claims: Any) -> str:
    now = int(time.time())
    said = {"sub": owner, "aud": "apache-airflow", "nbf": now, "iat": now, "exp": now + 600, **claims}
    return jwt.encode(said, secret, algorithm="HS512")


def test_a_token_counts_by_its_signature_its_use_and_its_owner_alone(api):
    """A worker has no key of tokens (tests/compose/test_file.py), and what it is given for its steps opens nothing."""

    def status(token: str) -> int:
        with api.client(token=token) as client:
            return client.get("/api/v2/connections").status_code

    def owner(name: str) -> str:
        return str(jwt.decode(api.token(name), options={"verify_signature": False})["sub"])

    assert status(signed(owner("admin"))) == 200  # whoever has the secret is anybody
    assert status(signed(owner("admin"), "whatever else a worker may know, which is not the secret of tokens")) == 403
    assert status(signed(owner("admin"), aud="urn:airflow.apache.org:task")) == 403
    assert status(signed(owner("viewer"), role="admin", roles=["Admin"])) == 403


def test_a_step_runs_with_what_a_worker_holds_which_is_no_database_and_no_key_of_tokens(api):
    dag, run, task = QUEUED
    done = api.work()
    with api.client("viewer") as viewer:
        at = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"
        assert viewer.get(at).json()["state"] == "success", done.stdout[-3000:] + done.stderr[-3000:]
        assert viewer.get(f"{at}/xcomEntries").json()["total_entries"]


# --- the accounts


def person(password: str, *roles: str) -> dict[str, Any]:
    return {"password": password, "roles": list(roles)}


def test_accounts_are_made_once_and_keep_their_owners_password(api):
    first = api.accounts({"anna": person("the first password", "Viewer")})
    again = api.accounts({"anna": person("the second password", "Viewer", "pms_deployer")})
    same = api.accounts({"anna": person("the second password", "Viewer", "pms_deployer")})
    said = [(one.returncode, one.stdout.splitlines()[-1]) for one in (first, again, same)]
    assert said == [(0, "anna: made"), (0, "anna: roles set"), (0, "anna: as it should be")]
    api.passwords["anna"] = "the first password"
    with api.client("anna") as anna:
        assert ACTIONS["start a deployment"].by(anna, "anna") == 200


def test_the_account_of_callbacks_has_the_password_of_its_connection(api):
    login, old = AUTOMATION
    new = json.dumps({"conn_type": "http", "login": login, "password": "another one"})
    done = api.accounts({}, AIRFLOW_CONN_PMS_AIRFLOW=new)
    with api.client(address="127.0.0.4") as client:
        tried = [sign_in(client, login, password).status_code for password in (old, "another one")]
    api.accounts({})
    assert (done.stdout.splitlines()[-1], tried) == ("automation: password set", [401, 201])


def test_what_does_not_fit_changes_nothing(api):
    people = {"carl": person("long enough it is", "Viewer"), "ben": person("long enough it is", "pms_captain")}
    tried = api.accounts(people)
    assert tried.returncode == 1 and "refused: ben: there is no role pms_captain" in tried.stderr
    assert "long enough" not in tried.stdout + tried.stderr
    with api.client("admin") as admin:
        assert "carl" not in admin.get("/auth/fab/v1/users").text
