"""Traffic between two colours that really serve, on the stand-in cluster."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from handover.coordination.lock import FencedOut
from handover.models.deployment import FencingToken
from handover.traffic import switch
from handover.traffic.api import Api
from handover.traffic.back import NothingToRollBack, let_go, look, move_back, wake_old
from handover.traffic.drain import drain
from handover.traffic.forward import Forward, SwitchFailed
from handover.traffic.service import NotReady, change
from tests.support.cluster import ROOT
from tests.support.colours import TOKEN, load

pytestmark = pytest.mark.sandbox


async def nothing() -> None:
    pass


def forward(world, kube, *, version="v1.1.0", fence=nothing, token=None) -> Forward:
    return Forward(kube, world.plan, token or world.token, version, Api(world.url, TOKEN), fence)


async def bring_back(world, kube, reason="a test") -> bool:
    return await move_back(kube, world.plan, await look(kube, world.plan), reason)


def test_forward_and_back_lose_no_request(world):
    async def there_and_back(kube):
        measured = {m.what: m.value for m in await forward(world, kube).run()}
        assert await world.service(kube) == ("green", "new")
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
    assert world.run(world.service) == ("blue", "back")


def test_keep_alive_connections_move_both_ways_and_lose_no_request(world):
    async def there(kube):
        await forward(world, kube).run()

    async def back(kube):
        await bring_back(world, kube)
        kept, drained = await let_go(kube, world.plan, world.token, TOKEN)
        assert (kept.pods, drained.pods, drained.problems) == (2, 2, ())

    with load(world.url, keep_alive=True) as guests:
        world.run(there)
        time.sleep(0.3)
        switched = time.monotonic()
        assert guests.last["v1.0.0"] < switched - 0.1
        world.run(back)
        time.sleep(0.3)
        assert guests.last["v1.1.0"] < time.monotonic() - 0.1
    assert guests.failed == []


def test_running_the_switch_twice_changes_nothing(world):
    async def twice(kube):
        await forward(world, kube).run()
        before = await kube.get("services", "pms-api")
        await forward(world, kube).run()
        assert await kube.get("services", "pms-api") == before

    world.run(twice)


@pytest.mark.parametrize("after", ["overlap", "narrow"])
def test_a_switch_that_was_killed_half_way_is_resumed(world, after):
    class Killed(BaseException):
        pass

    calls = []

    async def fence():
        calls.append(1)
        if len(calls) == (2 if after == "overlap" else 99):
            raise Killed

    async def killed(kube):
        run = forward(world, kube, fence=fence)
        if after == "overlap":
            with pytest.raises(Killed):
                await run.run()
            assert await world.service(kube) == (None, "both")
        else:
            await change(kube, "pms-api", partial(switch.overlap, cluster=world.plan.cluster, token=world.token))
            await change(kube, "pms-api", partial(switch.narrow, cluster=world.plan.cluster, token=world.token))
        await forward(world, kube).run()
        assert await world.service(kube) == ("green", "new")

    with load(world.url) as guests:
        world.run(killed)
    assert guests.failed == []


def test_a_new_colour_that_is_not_all_there_gets_no_traffic(world):
    async def one_pod(kube):
        await world.scale(kube, "green", 1)
        with pytest.raises(NotReady, match="1 of 2 replicas"):
            await forward(world, kube).run()
        assert (await world.service(kube))[0] == "blue"

    world.run(one_pod)


def test_pods_that_vanish_during_the_overlap_bring_the_old_selector_back(world):
    plan = world.plan.model_copy(
        update={
            "traffic": world.plan.traffic.model_copy(update={"endpoint_timeout_seconds": 0.5, "overlap_seconds": 0.5})
        }
    )

    async def vanish(kube):
        run = Forward(kube, plan, world.token, "v1.1.0", Api(world.url, TOKEN), nothing)
        switching = asyncio.create_task(run.run())
        while await world.service(kube) != (None, "both"):
            await asyncio.sleep(0.01)
        await world.scale(kube, "green", 0)
        with pytest.raises(SwitchFailed, match="traffic is on blue again"):
            await switching
        assert await world.service(kube) == ("blue", "old")
        await world.scale(kube, "green", 2)
        await forward(world, kube).run()
        assert await world.service(kube) == ("green", "new")

    world.run(vanish)


def test_a_version_that_answers_badly_is_moved_back_at_once_with_its_kept_connections(world, caplog):
    caplog.set_level("INFO")

    async def bad(kube):
        await world.tell(kube, "green", mode="errors")
        with pytest.raises(SwitchFailed, match=r"3 bad answers.*status 500; traffic is back on blue"):
            await forward(world, kube).run()
        assert await world.service(kube) == ("blue", "back")

    world.run(bad)
    assert "drained 2 pods of green" in caplog.text


def test_another_version_than_the_released_one_is_moved_back(world):
    short = world.plan.model_copy(
        update={"traffic": world.plan.traffic.model_copy(update={"endpoint_timeout_seconds": 0.5})}
    )

    async def other(kube):
        run = Forward(kube, short, world.token, "v9.9.9", Api(world.url, TOKEN), nothing)
        with pytest.raises(SwitchFailed, match=r"reach v1\.1\.0 instead of v9\.9\.9"):
            await run.run()
        assert await world.service(kube) == ("blue", "back")

    world.run(other)


def test_a_zombie_switch_can_not_undo_a_rollback(world):
    async def zombie(kube):
        await forward(world, kube).run()
        await bring_back(world, kube)
        with pytest.raises(FencedOut, match="never goes forward again"):
            await forward(world, kube).run()
        assert await world.service(kube) == ("blue", "back")

    world.run(zombie)


def test_a_rollback_before_the_switch_keeps_it_from_ever_happening(world):
    async def early(kube):
        await bring_back(world, kube)
        with pytest.raises(FencedOut):
            await forward(world, kube).run()
        assert await world.service(kube) == ("blue", "back")

    world.run(early)


def test_forward_and_back_racing_always_end_on_the_old_colour(world):
    """Rollback at any moment of a switch wins, and both sides agree on it."""
    fast = world.plan.model_copy(
        update={"traffic": world.plan.traffic.model_copy(update={"overlap_seconds": 0.02, "verify_requests": 2})}
    )

    async def races(kube):
        for generation, delay in enumerate((0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15), start=2):
            token = world.token.model_copy(update={"generation": generation})
            switching = asyncio.create_task(Forward(kube, fast, token, "v1.1.0", Api(world.url, TOKEN), nothing).run())
            await asyncio.sleep(delay)
            decide = partial(switch.back, cluster=fast.cluster, token=token, reason="race")
            back = change(kube, "pms-api", decide)
            results = await asyncio.gather(switching, back, return_exceptions=True)
            assert isinstance(results[0], list | FencedOut | SwitchFailed), results
            assert await world.service(kube) == ("blue", "back"), results

    world.run(races)


def test_back_is_refused_when_the_old_colour_is_not_ready_and_wakes_it_up_on_demand(world):
    async def asleep(kube):
        await forward(world, kube).run()
        await world.scale(kube, "blue", 0)
        facts = await look(kube, world.plan)
        with pytest.raises(NotReady, match="pms-blue has no ready pod"):
            await move_back(kube, world.plan, facts, "a test")
        assert await world.service(kube) == ("green", "new")
        facts = await wake_old(kube, world.plan, facts)
        assert await move_back(kube, world.plan, facts, "a test")
        assert await world.service(kube) == ("blue", "back")

    with load(world.url) as guests:
        world.run(asleep)
    assert guests.failed == []


def test_back_with_facts_that_are_not_fresh_any_more(world):
    async def stale(kube):
        facts = await look(kube, world.plan)  # before the switch: another resourceVersion, another selector
        await forward(world, kube).run()
        assert await move_back(kube, world.plan, facts, "a test")
        assert not await move_back(kube, world.plan, facts, "again")
        assert await world.service(kube) == ("blue", "back")

    world.run(stale)


def test_back_names_what_it_does_not_know(world):
    async def other(kube):
        with pytest.raises(NothingToRollBack, match="no deployment manual__elsewhere"):
            await look(kube, world.plan, "manual__elsewhere")
        await kube.delete("configmaps", world.plan.lock_name)
        with pytest.raises(NothingToRollBack, match="no deployment to roll back"):
            await look(kube, world.plan)

    world.run(other)


def test_an_older_deployment_does_not_touch_the_traffic_of_a_newer_one(world):
    async def older(kube):
        newer = FencingToken(deployment="newer", generation=7, stable="blue", preview="green")
        await change(kube, "pms-api", partial(switch.overlap, cluster=world.plan.cluster, token=newer))
        with pytest.raises(FencedOut):
            await bring_back(world, kube)
        with pytest.raises(FencedOut):
            await forward(world, kube).run()

    world.run(older)


def test_draining_says_which_pods_do_not_do_it(world):
    async def wrong(kube):
        drained = await drain(kube, world.plan, "blue", "a wrong token", timeout=0.5)
        assert drained.pods == 0
        assert len(drained.problems) == 2
        assert "401" in drained.problems[0]
        off = world.plan.model_copy(update={"traffic": world.plan.traffic.model_copy(update={"drain_path": None})})
        assert (await drain(kube, off, "blue", TOKEN)).problems == ()

    world.run(wrong)


def command(world, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    import yaml

    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"cluster": {"namespace": world.namespace}}))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    return subprocess.run(
        [sys.executable, "-m", "handover.traffic", *arguments, "--plan", "include/plans/pms.yaml",
         "--kubeconfig", str(world.kubeconfig), "--token-file", str(token)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": "plugins", "PMS_PLAN_OVERLAY": str(overlay)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_line_moves_traffic_back_without_airflow(world, tmp_path):
    async def switched(kube):
        await forward(world, kube).run()

    world.run(switched)
    assert "says new" in command(world, tmp_path, "status").stdout
    begun = time.monotonic()
    done = command(world, tmp_path, "back", "--reason", "Airflow is down")
    print(f"{done.stdout}the whole command, draining included: {time.monotonic() - begun:.3f} s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("traffic is back on blue (v1.0.0); v1.1.0 gets no new connections (")
    assert "drained green: 2 pods" in done.stdout
    assert world.run(world.service) == ("blue", "back")
    again = command(world, tmp_path, "back", "--reason", "twice")
    assert again.stdout.startswith("traffic is on blue (v1.0.0) already, nothing to do")
    refused = command(world, tmp_path, "back", "--deployment", "manual__elsewhere")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "refused: there is no deployment manual__elsewhere" in refused.stderr


def test_the_command_line_needs_neither_airflow_nor_the_full_client():
    code = (
        "import sys, handover.traffic.__main__\n"
        "print([m for m in ('airflow', 'kubernetes', 'kubernetes_asyncio', 'aiohttp') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "plugins", capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
