"""What only real connections show: requests while traffic moves, connections that are kept, and the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from handover.adapters import public_http
from handover.ports.router import Stage
from handover.traffic.abort import abort, let_go, look
from handover.traffic.cutover import Cutover
from tests.support.cluster import ROOT
from tests.support.colours import TOKEN, load, made_world, world  # noqa: F401 - fixtures

pytestmark = pytest.mark.sandbox


async def nothing() -> None:
    pass


async def cut_over(world, kube) -> dict[str, float]:  # noqa: F811
    async with public_http.at(world.url, TOKEN) as public:
        run = Cutover(kube, world.router(kube), world.plan, world.token, "v1.1.0", public, nothing)
        return {m.what: m.value for m in await run.run()}


async def bring_back(world, kube) -> bool:  # noqa: F811
    router = world.router(kube)
    _, position = await look(kube, router, world.plan)
    return (await abort(router, world.plan, position, "a test"))[1]


@pytest.mark.plan("Zero downtime achieved")
def test_there_and_back_loses_no_request(world):  # noqa: F811
    async def there_and_back(kube):
        measured = await cut_over(world, kube)
        assert await world.where(kube) == ("green", Stage.PROMOTED)
        await asyncio.sleep(0.2)
        assert await bring_back(world, kube)
        return measured

    with load(world.url) as guests:
        measured = world.run(there_and_back)
    assert guests.failed == []
    assert guests.versions["v1.0.0"] > 0
    assert guests.versions["v1.1.0"] > 0
    assert measured["verified_requests"] == world.plan.traffic.verify_requests
    assert measured["drained_pods"] == 2
    assert world.run(world.where) == ("blue", Stage.ABORTED)


def test_kept_connections_move_both_ways_and_lose_no_request(world):  # noqa: F811
    async def back(kube):
        await bring_back(world, kube)
        kept, drained = await let_go(kube, world.plan, world.token, TOKEN)
        assert (kept.pods, drained.pods, drained.problems) == (2, 2, ())

    with load(world.url, keep_alive=True) as guests:
        world.run(lambda kube: cut_over(world, kube))
        before = guests.versions["v1.1.0"]
        guests.until(lambda: guests.versions["v1.1.0"] > before + 20)
        moved = time.monotonic()
        world.run(back)
        before = guests.versions["v1.0.0"]
        guests.until(lambda: guests.versions["v1.0.0"] > before + 20)
    assert guests.failed == []
    assert guests.last["v1.1.0"] > moved - 5


def command(world, tmp_path: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"cluster": {"namespace": world.namespace}}))
    return subprocess.run(
        [sys.executable, "-m", "handover", name, *arguments, "--plan", "include/plans/pms.yaml",
         "--kubeconfig", str(world.kubeconfig)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": "plugins", "PMS_PLAN_OVERLAY": str(overlay)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.plan("Security issue discovered")
def test_the_command_line_moves_traffic_back_without_airflow(world, tmp_path):  # noqa: F811
    world.run(lambda kube: cut_over(world, kube))
    assert "sends traffic to green; generation 1 (" in command(world, tmp_path, "status").stdout
    token = tmp_path / "token"
    token.write_text(TOKEN)
    done = command(world, tmp_path, "back", "--reason", "Airflow is down", "--token-file", str(token))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("traffic is back on blue (v1.0.0); v1.1.0 gets no new connections (")
    assert "drained green: 2 pods" in done.stdout
    assert world.run(world.where) == ("blue", Stage.ABORTED)
    again = command(world, tmp_path, "back", "--reason", "twice")
    assert again.stdout.startswith("traffic is on blue (v1.0.0) already, nothing to do")
    refused = command(world, tmp_path, "back", "--deployment", "manual__elsewhere")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "refused: there is no deployment manual__elsewhere" in refused.stderr


def test_the_command_line_needs_neither_airflow_nor_the_full_client():
    code = (
        "import sys, handover.cli.traffic\n"
        "print([m for m in ('airflow', 'kubernetes', 'kubernetes_asyncio', 'aiohttp') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "plugins", capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_command_line_says_what_there_is_and_what_is_wrong():
    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "handover", *arguments], cwd=ROOT / "plugins", capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    listed = ask("--help")
    assert listed.returncode == 0
    assert {"back", "status", "rbac", "permissions", "readiness", "record"} <= set(listed.stdout.split())
    wrong = ask("bakc")
    assert (wrong.returncode, wrong.stderr.startswith("there is no command 'bakc'")) == (2, True)
