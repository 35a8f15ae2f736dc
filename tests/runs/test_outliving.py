"""Who in Airflow is dead does not matter: a bad version is taken off, and the rest follows when Airflow is back."""

from __future__ import annotations

import time

import httpx
import pytest

from sandbox.processes import Process, kill_sessions
from sandbox.rounds import NEW, OLD, break_pods, new_pods, under_watch
from sandbox.services.airflow import DAEMONS, command, environment
from tests.support.until import until

pytestmark = [pytest.mark.run, pytest.mark.slow]


@pytest.fixture
def revive(sandbox):
    """Starts daemons of Airflow again, which were killed."""
    revived: list[Process] = []

    def start(*names: str) -> None:
        for name in names:
            log = sandbox.settings.log(f"airflow-{name}-again")
            revived.append(Process(f"airflow-{name}", command(name), log, env=environment(sandbox.settings)))

    yield start
    for process in revived:
        process.stop(5.0)


@pytest.mark.parametrize("dead", [DAEMONS, ("triggerer",), ("watch",)], ids=["all of Airflow", "triggerer", "watch"])
def test_a_bad_version_is_taken_off_and_the_rest_follows(team, production, guests, endpoints, revive, dead):
    run_id = under_watch(team)
    names = [name if name == "watch" else f"airflow-{name}" for name in dead]
    kill_sessions(endpoints["processes"][name] for name in names)
    asked = break_pods(endpoints, new_pods(endpoints)).asked
    until(lambda: _version(endpoints["public"]) == OLD, "the old version to serve")
    print(f"traffic was back after {time.time() - asked:.2f} s")
    revive(*(name for name in dead if name != "watch"))
    until(lambda: _answers(team), "Airflow to answer")
    outcome = team.follow(NEW, run_id, timeout=300)
    assert outcome.outcome == "rolled_back", outcome
    assert "error_rate" in outcome.reason
    assert production.state()["incidents"][0]["outcome"] == "rolled_back"


def _version(url: str) -> str:
    return httpx.get(f"{url}/health", trust_env=False).headers.get("X-Version", "")


def _answers(team) -> bool:
    try:
        return bool(team.admin.health())
    except Exception:
        return False
