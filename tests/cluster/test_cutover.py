"""Traffic moves on a real kube-proxy, with what goes wrong there injected while it moves."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from handover.adapters import public_http
from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.models.deployment import FencingToken
from handover.ports.kube import Kube
from handover.ports.public import PublicAddress
from handover.traffic.cutover import CutoverFailed
from handover.traffic.drain import undrain
from sandbox.crowds import Guests
from sandbox.cutover import ROLLBACKS, SWITCHES, VERSIONS, TimedRouter, back, begin, cutover, prepare, switch
from sandbox.services.access import Access

pytestmark = pytest.mark.cluster
numbers = itertools.count(1000)
SETTLED_SECONDS = 3.0


class Moving:
    """One deployment between the colours as they are: what serves is the old one."""

    def __init__(self, hotel, kube: Kube, token: FencingToken, public: PublicAddress) -> None:
        self.hotel, self.kube, self.token, self.public = hotel, kube, token, public

    async def forward(self):
        return await switch(self.kube, self.hotel.plan, self.token, self.public)

    async def back(self):
        return await back(self.kube, self.hotel.plan, self.token, self.public)

    async def until_both_serve(self) -> None:
        while "version" in (await self.kube.get("services", "pms-api"))["spec"]["selector"]:
            await asyncio.sleep(0.02)

    async def pods(self, colour: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in await self.kube.list("pods", {"app": "pms", "version": colour})]


@asynccontextmanager
async def deployment(hotel):
    """A deployment that holds the lock; both colours are up, and keep their connections."""
    await prepare(hotel.endpoints, hotel.plan)
    admin_token = hotel.endpoints["hotel"]["admin_token"]
    async with (
        connect_with_kubeconfig(hotel.endpoints["kubeconfig"], "production") as kube,
        public_http.at(hotel.endpoints["public"], admin_token) as public,
    ):
        old = (await TimedRouter(kube, hotel.plan).read()).colour
        token = await begin(kube, hotel.plan, next(numbers), old, "green" if old == "blue" else "blue")
        for colour in VERSIONS:
            await undrain(kube, hotel.plan, colour, admin_token)
        yield Moving(hotel, kube, token, public)


def moved(hotel, tmp_path, work: Callable[[Moving], Awaitable[None]]) -> tuple[dict, str]:
    """What guests saw while the work was done, and the version that serves after it."""

    async def whole() -> None:
        async with deployment(hotel) as moving:
            await work(moving)
        await asyncio.sleep(0.5)

    with Guests(hotel.endpoints, tmp_path, rate=200) as guests:
        asyncio.run(whole())
    return guests.report(), settled(hotel)


def settled(hotel, version: str = "") -> str:
    """The version that answers every new connection, once kube-proxy has followed; ``version`` waits for that one.

    It follows at most once a second, so an older state of the Service may come first.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    while len(seen := answering(hotel)) > 1 or (version and seen != {version}):
        assert time.monotonic() < deadline, seen
    return seen.pop()


def answering(hotel) -> set[str]:
    url = f"{hotel.endpoints['public']}/health"
    return {httpx.get(url, trust_env=False).headers["X-Version"] for _ in range(20)}


def test_many_switches_and_rollbacks_lose_no_request(hotel, tmp_path):
    report = cutover(hotel.endpoints, hotel.plan, tmp_path)
    assert (report["switches"], report["rollbacks"]) == (SWITCHES, ROLLBACKS)
    assert report["requests_per_second"] >= 200
    assert (report["failed"], report["bad_answers"], report["wrong_version_after_drain"]) == (0, 0, 0)
    assert report["streams"]["ended"] >= SWITCHES
    assert report["websockets"]["closed"] >= SWITCHES


def test_a_node_whose_proxy_lags_delays_the_switch_and_loses_nothing(hotel, tmp_path):
    proxy = hotel.cluster.processes["kube-proxy"]
    versions = []

    async def work(moving: Moving) -> None:
        os.kill(proxy, signal.SIGSTOP)
        try:
            moving_on = asyncio.create_task(moving.forward())
            await asyncio.sleep(5)
            assert not moving_on.done()
        finally:
            os.kill(proxy, signal.SIGCONT)
        await moving_on
        versions.append(VERSIONS[moving.token.preview])

    report, serving = moved(hotel, tmp_path, work)
    assert (report["failed"], report["bad_answers"]) == (0, 0)
    assert [serving] == versions


def test_the_api_server_may_restart_in_the_middle_of_a_switch(hotel, tmp_path):
    versions = []

    async def work(moving: Moving) -> None:
        moving_on = asyncio.create_task(moving.forward())
        await moving.until_both_serve()
        os.kill(hotel.cluster.processes["kube-apiserver"], signal.SIGKILL)
        await moving_on
        versions.append(VERSIONS[moving.token.preview])

    report, serving = moved(hotel, tmp_path, work)
    assert (report["failed"], report["bad_answers"]) == (0, 0)
    assert [serving] == versions


def test_pods_that_stay_ready_but_fail_send_traffic_back_at_once(hotel, tmp_path):
    versions = []

    async def work(moving: Moving) -> None:
        new = await moving.pods(moving.token.preview)
        versions.append(VERSIONS[moving.token.stable])
        await tell(hotel, new, "errors")
        try:
            with pytest.raises(CutoverFailed, match="traffic is back on"):
                await moving.forward()
            await asyncio.to_thread(settled, hotel, versions[0])  # the pods fail until nobody reaches them
        finally:
            await tell(hotel, new, "none")

    report, serving = moved(hotel, tmp_path, work)
    assert report["failed"] == 0
    assert report["bad_answers"] > 0
    assert [serving] == versions
    assert report["bad_seconds"] < 3


def test_a_new_pod_that_dies_in_the_middle_of_a_switch_leaves_one_version_serving(hotel, tmp_path):
    """Requests that were in the dying pod are lost, whatever a deployment does; nothing may be lost after that."""

    async def work(moving: Moving) -> None:
        victim, *_ = await moving.pods(moving.token.preview)
        moving_on = asyncio.create_task(moving.forward())
        await moving.until_both_serve()
        await kill(hotel, victim)
        with suppress(CutoverFailed):
            await moving_on

    report, serving = moved(hotel, tmp_path, work)
    assert serving in VERSIONS.values()
    assert report["failed_seconds"] < 3
    assert report["bad_answers"] == 0


async def tell(hotel, pods: list[str], mode: str) -> None:
    headers = {"X-Admin-Token": hotel.endpoints["hotel"]["admin_token"]}
    with Access(**hotel.endpoints["kubernetes"]).client(headers) as api:
        for pod in pods:
            where = f"/api/v1/namespaces/production/pods/{pod}:8080/proxy/-/fault"
            api.post(where, json={"mode": mode}).raise_for_status()


async def kill(hotel, pod: str) -> None:
    """Without a word: no SIGTERM, no preStop, no grace."""
    with Access(**hotel.endpoints["kubernetes"]).client() as api:
        api.request("DELETE", f"/api/v1/namespaces/production/pods/{pod}", json={"gracePeriodSeconds": 0})
