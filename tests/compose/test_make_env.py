"""scripts/make_env.py: secrets that nobody else can read, made once."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml

from handover.plan.airflow_roles import ADMIN, VIEWER, approver, roles_of, rollback
from handover.plan.load import load_plan
from sandbox.docker.project import variables
from sandbox.settings import REPOSITORY

PLAN = REPOSITORY / "include" / "plans" / "pms.yaml"
SCRIPT = REPOSITORY / "scripts" / "make_env.py"


def run(*arguments):
    return subprocess.run([sys.executable, "-I", SCRIPT, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path):
    assert run("--folder", tmp_path).returncode == 0
    return tmp_path


def test_files_are_for_their_owner_alone(folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder / ".env", *folder.glob("production*/**/*")]}
    assert modes == {".env": 0o600, "airflow.env": 0o600}
    assert (folder / "production").stat().st_mode & 0o777 == 0o700


def test_a_second_run_changes_nothing_and_says_so(folder):
    before = (folder / ".env").read_text()
    again = run("--folder", folder)
    assert (again.returncode, (folder / ".env").read_text()) == (1, before)
    assert "exists already" in again.stderr


def test_connections_that_were_filled_in_are_kept(tmp_path):
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "airflow.env").write_text("mine\n")
    assert run("--folder", tmp_path).returncode == 0
    assert (tmp_path / "production" / "airflow.env").read_text() == "mine\n"


def test_no_two_secrets_are_the_same(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert run("--folder", other).returncode == 0
    secrets = [
        value
        for values in (variables(folder), variables(other))
        for name, value in values.items()
        if name.endswith(("_KEY", "_SECRET", "_PASSWORD"))
    ]
    for values in (variables(folder), variables(other)):
        secrets += [one["password"] for one in json.loads(values["HANDOVER_ACCOUNTS"]).values()]
        secrets.append(json.loads(values["AIRFLOW_CONN_PMS_AIRFLOW"])["password"])
    assert len(set(secrets)) == len(secrets) >= 26


def test_callbacks_use_an_account_of_their_own(folder):
    values = variables(folder)
    login = json.loads(values["AIRFLOW_CONN_PMS_AIRFLOW"])["login"]
    assert login == "automation" and login not in json.loads(values["HANDOVER_ACCOUNTS"])


def test_every_user_of_the_plan_may_answer_and_roll_back(folder):
    plan, accounts = load_plan(PLAN), json.loads(variables(folder)["HANDOVER_ACCOUNTS"])
    for user in {user for role in plan.team.values() for user in role.users}:
        assert {VIEWER, approver(plan), rollback(plan)} <= set(accounts[user]["roles"])


def test_every_role_that_is_given_is_there(folder):
    given = {role for one in json.loads(variables(folder)["HANDOVER_ACCOUNTS"]).values() for role in one["roles"]}
    assert given <= {VIEWER, ADMIN, *roles_of(load_plan(PLAN))}


def test_every_connection_of_the_plan_stands_there_to_be_filled_in(folder):
    text = (folder / "production" / "airflow.env").read_text() + "AIRFLOW_CONN_PMS_AIRFLOW="
    named = PLAN.read_text()
    for name in re.findall(r"(?:connection|connections): \[?(pms_\w+)", named):
        assert f"AIRFLOW_CONN_{name.upper()}=" in text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    failed = run("--folder", tmp_path / "missing")
    assert failed.returncode == 1 and f"nothing can be written to {tmp_path / 'missing'}" in failed.stderr


def test_every_image_that_is_fetched_can_be_named_by_its_digest():
    services = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())["services"].values()
    built = {one["image"] for one in services if "build" in one}
    fetched = {one["image"] for one in services} - built
    fetched |= {base for one in services if "build" in one for base in one["build"]["args"].values()}
    assert len(fetched) == 3
    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w.-]+:[\w.-]+\}", image) for image in fetched)
