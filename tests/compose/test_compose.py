"""From `docker compose up` to a finished deployment, and to nothing with `docker compose down -v`."""

from __future__ import annotations

import json

import httpx
import pytest

from sandbox.docker.project import URL, variables
from sandbox.runs import DEPLOYMENT, Team

pytestmark = pytest.mark.compose
TIMEOUT_SECONDS = 900
ALWAYS_ON = {"postgres", "redis", "apiserver", "scheduler", "dag-processor", "triggerer", "watch", "worker"}


def containers(up):
    lines = up.project.compose("ps", "--all", "--format", "json").splitlines()
    return {entry["Service"]: entry for entry in map(json.loads, lines)}


def in_container(up, service, *argv):
    return up.project.compose("exec", "--no-TTY", service, *argv)


def test_every_service_is_healthy_and_the_migration_is_done(up):
    found = containers(up)
    assert {name for name, entry in found.items() if entry["Health"] == "healthy"} == ALWAYS_ON
    assert (found["migrate"]["State"], found["migrate"]["ExitCode"]) == ("exited", 0)


def test_only_the_ui_is_published_and_to_this_machine_alone(up):
    published = {
        (name, port["URL"], port["PublishedPort"])
        for name, entry in containers(up).items()
        for port in entry["Publishers"] or []
        if port["PublishedPort"]
    }
    assert published == {("apiserver", "127.0.0.1", 8080)}


def test_nobody_signs_in_with_a_password_that_the_script_did_not_make(up):
    def sign_in(password):
        return httpx.post(f"{URL}/auth/token", json={"username": "admin", "password": password}, trust_env=False)

    made = json.loads(variables(up.project.folder)["HANDOVER_ACCOUNTS"])["admin"]["password"]
    assert up.project.host.inside(lambda: sign_in("admin").status_code) == httpx.codes.UNAUTHORIZED
    assert up.project.host.inside(lambda: sign_in(made).status_code) == httpx.codes.CREATED


def test_containers_run_without_rights_and_cannot_change_what_they_run(up):
    for service in ("apiserver", "worker"):
        status = in_container(up, service, "sh", "-c", "id -u; grep CapBnd /proc/self/status")
        assert status.split() == ["50000", "CapBnd:", "0000000000000000"]
        tried = in_container(up, service, "sh", "-c", "touch dags/x plugins/x config/x production/x 2>&1 || true")
        assert tried.count("Read-only file system") == 4


def test_no_password_can_be_read_from_the_list_of_processes(up):
    secrets = {value for name, value in variables(up.project.folder).items() if name.endswith(("PASSWORD", "SECRET"))}
    listed = up.project.host.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "redis-server" in listed and "airflow" in listed
    assert not any(secret in listed for secret in secrets)


def test_deploys_with_the_answers_of_people_and_shows_the_logs_of_its_workers(up):
    def deploy():
        team = Team(up.project.endpoints, print)
        outcome = team.deploy("v1.1.0", timeout=TIMEOUT_SECONDS)
        return outcome, team.logs(DEPLOYMENT, outcome.run_id)

    with up.stages.of("deployment"):
        outcome, logs = up.project.host.inside(deploy)
    assert (outcome.outcome, outcome.failed_tasks) == ("succeeded", {}), f"{outcome.reason}: {outcome.failed_tasks}"
    assert len(outcome.answered) >= 2
    assert "watch" in logs
    for empty in ("end", "reminded"):  # they run nothing, and so leave no log
        del logs[empty]
    assert not [task for task, log in logs.items() if not log.strip() or "Could not read served logs" in log]


def test_down_leaves_nothing(up):
    """The last test: it takes everything down."""
    with up.stages.of("docker compose down -v"):
        up.project.compose("down", "--volumes")
    assert up.project.objects() == up.before
