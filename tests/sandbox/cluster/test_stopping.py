"""How a cluster starts and ends: it leaves no process behind, and no other cluster in its way."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cluster.space import Space

pytestmark = pytest.mark.sandbox

STRAY = "import subprocess,time; subprocess.Popen(['sleep', '300']); time.sleep(300)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_cluster(
    start_cluster: Callable[..., Any], eventually: Callable[..., Any], number: int
) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_pod("stray", STRAY)
    space.in_phase("stray", "Running")
    group = int(re.findall(r"process://(\d+)", str(space.pod("stray")))[0])

    def members() -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, of, state in rows if int(of) == group and not state.startswith("Z")]

    eventually(lambda: len(members()) == 2)
    cluster.process.send_signal(number)
    cluster.process.wait(timeout=20)
    eventually(lambda: not members())


def test_a_cluster_that_stops_starts_nothing_more(start_cluster: Callable[..., Any], eventually: Any) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_job("long", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)", backoffLimit=9)
    eventually(lambda: any(pod["status"]["phase"] == "Running" for pod in space.pods()))
    cluster.process.terminate()
    assert cluster.process.wait(timeout=10) == 0


def test_a_second_cluster_on_the_same_address_fails_and_leaves_the_first_alone(
    start_cluster: Callable[..., Any], eventually: Any
) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_pod("talking", "print('still here')")
    space.in_phase("talking", "Succeeded")
    second = [sys.executable, "-m", "sandbox.cluster", "--config", str(cluster.home / "config.json")]
    done = subprocess.run(
        second, capture_output=True, text=True, timeout=30, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
    assert space.log("talking") == "still here\n"


def test_open_watches_do_not_keep_a_cluster_from_stopping(start_cluster: Callable[..., Any]) -> None:
    cluster = start_cluster()
    headers = {"Authorization": f"Bearer {cluster.token}"}
    watch = urllib.request.Request(f"{cluster.url}/api/v1/namespaces?watch=true", headers=headers)
    with urllib.request.urlopen(watch, timeout=10) as events:
        assert events.readline()
        cluster.process.terminate()
        assert cluster.process.wait(timeout=10) == 0
    assert (cluster.home / "cluster.log").read_text() == ""


def test_the_cluster_is_ready_within_a_second_or_so(start_cluster: Callable[..., Any]) -> None:
    began = time.monotonic()
    start_cluster()
    assert time.monotonic() - began < 5
