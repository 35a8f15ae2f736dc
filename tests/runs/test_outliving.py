"""Who in Airflow is dead does not matter: a bad version is taken off, and the rest follows when Airflow is back."""

from __future__ import annotations

import time

import httpx
import pytest

from sandbox.processes import Process, kill_sessions
from sandbox.rounds import NEW, OLD, break_pods, new_pods, under_watch
from sandbox.runs import DEPLOYMENT, ROLLBACK
from sandbox.services.airflow import DAEMONS, command, environment
from sandbox.services.watch import command as watch_command
from tests.runs import reading
from tests.support.until import until

pytestmark = [pytest.mark.run, pytest.mark.slow]


class Daemons:
    """Those of Airflow and the watch beside it, to be killed and started again."""

    def __init__(self, sandbox, endpoints) -> None:
        self._settings = sandbox.settings
        self._pids = {name: endpoints["processes"][_process(name)] for name in (*DAEMONS, "watch")}
        self.revived: dict[str, Process] = {}

    def kill(self, *names: str) -> None:
        kill_sessions(self._pids[name] for name in names)

    def revive(self, *names: str) -> None:
        for name in names:
            argv = watch_command() if name == "watch" else command(name)
            log = self._settings.log(f"{_process(name)}-again")
            self.revived[name] = Process(_process(name), argv, log, env=environment(self._settings))
            self._pids[name] = self.revived[name].pid


def _process(name: str) -> str:
    return name if name == "watch" else f"airflow-{name}"


@pytest.fixture(scope="module")
def daemons(sandbox, endpoints):
    found = Daemons(sandbox, endpoints)
    yield found
    for process in found.revived.values():
        process.stop(5.0)


@pytest.mark.parametrize("dead", [("watch",), ("triggerer",), DAEMONS], ids=["watch", "triggerer", "all of Airflow"])
def test_a_bad_version_is_taken_off_and_the_rest_follows(team, production, guests, endpoints, daemons, dead):
    run_id = under_watch(team)
    daemons.kill(*dead)
    asked = break_pods(endpoints, new_pods(endpoints)).asked
    until(lambda: _version(endpoints["public"]) == OLD, "the old version to serve")
    print(f"traffic was back after {time.time() - asked:.2f} s")
    daemons.revive(*dead)
    until(lambda: _answers(team), "Airflow to answer")
    outcome = team.follow(NEW, run_id, timeout=300)
    assert outcome.outcome == "rolled_back", outcome
    assert "error_rate" in outcome.reason
    assert production.state()["incidents"][0]["outcome"] == "rolled_back"
    _record_is_whole(team, endpoints, run_id)


def _record_is_whole(team, endpoints, run_id: str) -> None:
    """Every step that ran is in it, of the deployment and of its rollback; and how it ended, and why."""
    rollback = f"rollback__{run_id}"
    record = reading.read(endpoints, run_id, "report", seconds=120)
    ran = {(run_id, step) for step in reading.steps_of(team, DEPLOYMENT, run_id)}
    ran |= {(rollback, step) for step in reading.steps_of(team, ROLLBACK, rollback)}
    assert {(check.run, check.step) for check in record.checks} == ran
    assert record.outcomes[-1].status == "rolled_back"
    assert record.incidents[-1].kind == "resolved"
    assert "error_rate" in reading.said_by(record)


def _version(url: str) -> str:
    return httpx.get(f"{url}/health", trust_env=False).headers.get("X-Version", "")


def _answers(team) -> bool:
    try:
        return bool(team.admin.health())
    except Exception:
        return False
