"""`python -m sandbox` as a person uses it: up, status, down, twice, beside each other, and after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from sandbox.airflow_client import AirflowClient
from sandbox.settings import REPOSITORY, ROLES

LIGHT = ("recorder", "smtp", "replica")


def cli(command: str, home: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "sandbox", command, "--home", str(home), *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False, **options)


def processes_of(home: Path) -> list[psutil.Process]:
    """The supervisor and everything below it, however deep."""
    supervisor = psutil.Process(json.loads((home / "endpoints.json").read_text())["processes"]["supervisor"])
    return [supervisor, *supervisor.children(recursive=True)]


def survivors(processes: list[psutil.Process], within_seconds: float = 10) -> list[psutil.Process]:
    gone_by = time.monotonic() + within_seconds
    while True:
        left = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
        if not left or time.monotonic() > gone_by:
            return left
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    yield home
    cli("down", home)


def test_everything_comes_up_and_goes_without_a_trace(home, tmp_path):
    up = cli("up", home, "--small", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert up.returncode == 0, up.stdout + up.stderr
    path = home / "endpoints.json"
    assert path.stat().st_mode & 0o777 == 0o600
    endpoints = json.loads(path.read_text())

    assert cli("status", home).returncode == 0
    again = cli("up", home)
    assert again.returncode == 0
    assert "Already up" in again.stdout
    check_that_all_is_usable(endpoints)

    processes = processes_of(home)
    assert len(processes) > 20
    assert cli("down", home).returncode == 0
    assert survivors(processes, 0) == []
    assert list(tmp_path.iterdir()) == []
    assert cli("status", home).returncode == 3
    assert cli("down", home).returncode == 0


def check_that_all_is_usable(endpoints):
    airflow = endpoints["airflow"]
    assert set(airflow["users"]) == set(ROLES)
    for who in [airflow, *airflow["users"].values()]:
        with AirflowClient(airflow["url"], who["user"], who["password"]) as client:
            assert isinstance(client.dags(), list)
    for name in ("primary", "replica", "metadata", "restore"):
        with psycopg.connect(endpoints["postgres"][name], autocommit=True) as connection:
            connection.execute("SELECT 1")
            if name == "restore":
                connection.execute("CREATE DATABASE test_restore")
                connection.execute("DROP DATABASE test_restore")
    for name in ("public", "staging"):
        answer = httpx.get(f"{endpoints[name]}/health", trust_env=False)
        assert (answer.status_code, answer.headers["x-version"]) == (200, "v1.0.0")
    hotel = endpoints["hotel"]
    login = {"email": hotel["test_email"], "password": hotel["test_password"]}
    assert httpx.post(f"{endpoints['public']}/auth/login", json=login, trust_env=False).status_code == 200
    assert Path(endpoints["kubeconfig"]).stat().st_mode & 0o077 == 0
    assert set(endpoints["processes"]) >= {"supervisor", "primary", "replica", "airflow-scheduler", "kubernetes"}


def test_a_killed_supervisor_takes_everything_with_it(home, tmp_path):
    up = cli("up", home, "--small")
    assert up.returncode == 0, up.stdout + up.stderr
    processes = processes_of(home)
    processes[0].kill()
    assert survivors(processes) == []
    assert cli("status", home).returncode == 3
    assert cli("down", home).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_two_stand_beside_each_other(tmp_path):
    homes = [tmp_path / "one", tmp_path / "two"]
    try:
        for home in homes:
            assert cli("up", home, "--small", "--only", *LIGHT).returncode == 0
        one, two = (json.loads((home / "endpoints.json").read_text()) for home in homes)
        httpx.post(f"{one['recorder']}/slack/hook", json={"text": "one"}, trust_env=False)
        assert len(httpx.get(f"{one['recorder']}/recorded", trust_env=False).json()) == 1
        assert httpx.get(f"{two['recorder']}/recorded", trust_env=False).json() == []
        assert one["postgres"]["primary"] != two["postgres"]["primary"]

        assert cli("down", homes[0]).returncode == 0
        psycopg.connect(two["postgres"]["replica"]).close()
    finally:
        for home in homes:
            cli("down", home)


def test_a_part_that_ends_is_shown_and_the_rest_goes_on(home):
    assert cli("up", home, "--only", "recorder", "smtp").returncode == 0
    endpoints = json.loads((home / "endpoints.json").read_text())
    os.kill(endpoints["processes"]["smtp"], signal.SIGKILL)
    time.sleep(0.2)
    status = cli("status", home)
    assert status.returncode == 1
    assert "ended" in status.stdout
    assert httpx.get(endpoints["recorder"], trust_env=False).status_code == 200


def test_a_part_that_cannot_start_is_explained_and_nothing_is_left(home, tmp_path):
    begin_of_time = "not a folder"
    (tmp_path / "cache").write_text(begin_of_time)
    up = cli("up", home, "--only", "primary", "recorder", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert up.returncode == 1
    assert "cache" in up.stderr
    assert not home.exists()


def test_a_folder_of_somebody_else_is_left_alone(home):
    (home / "run").mkdir(parents=True)
    (home / "run" / "thesis.txt").write_text("years of work")
    up = cli("up", home, "--only", "recorder")
    assert up.returncode == 1
    assert "not made by a sandbox" in up.stderr
    down = cli("down", home)
    assert down.returncode == 1
    assert (home / "run" / "thesis.txt").read_text() == "years of work"


def test_reports_stay_when_the_sandbox_goes(home):
    home.mkdir()
    (home / "demo.json").write_text("{}")
    assert cli("up", home, "--only", "recorder").returncode == 0
    assert cli("down", home).returncode == 0
    assert [path.name for path in home.iterdir()] == ["demo.json"]


def test_an_interrupted_start_leaves_nothing(home):
    argv = [sys.executable, "-m", "sandbox", "up", "--home", str(home), "--small"]
    up = subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    up.stdout.readline()  # the first component is ready, others are on their way
    started = [process for process in psutil.process_iter() if str(home) in " ".join(cmdline(process))]
    assert started
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 130
    assert survivors(started) == []
    assert not home.exists()


def cmdline(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def test_an_overlay_that_is_not_there_is_refused(home):
    up = cli("up", home, "--overlay", str(home / "nothing.yaml"))
    assert up.returncode == 2
    assert "overlay" in up.stderr


def test_a_taken_port_moves_the_sandbox_to_the_next_subnet():
    from sandbox.settings import Subnet

    first = Subnet()
    prefix = first.prefix
    first.close()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((f"{prefix}.0.6", 18081))
        taken.listen()
        second = Subnet()
        assert second.prefix != prefix
        second.close()
