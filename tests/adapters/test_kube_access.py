"""Credentials in time: renewed before they end, once when they are refused, and never by two at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover import clock
from handover.adapters.kube_access import RETRY_SECONDS, Access, ClusterApi, HttpResponse, NoAccess, Renewal
from handover.ports.kube import KubeError
from tests.support.virtual import VirtualTime

LIFE, MARGIN = 900.0, 60.0
FIRST = Access("https://there", "user ada")


class Plugin:
    """Gives tokens of 15 minutes, one after another. ``takes``: seconds until it has one; ``broken``: it has none."""

    def __init__(self, takes: float = 1.0, life: float = LIFE) -> None:
        self.takes, self.life, self.broken, self.calls = takes, life, False, 0

    async def __call__(self) -> Access:
        self.calls += 1
        await asyncio.sleep(self.takes)
        if self.broken:
            raise NoAccess("user ada: the plugin failed")
        now = clock.epoch()
        return replace(
            FIRST, authorization=f"Bearer t{self.calls}", renew_at=now + self.life - MARGIN, ends_at=now + self.life
        )


class Server(ClusterApi):
    """Takes the tokens that it takes, at once; keeps when it was asked."""

    def __init__(self, renewal: Renewal, takes) -> None:
        super().__init__(renewal)
        self.takes, self.asked = takes, []

    async def ask(self, access, method, path, query, body, headers, timeout):
        self.asked.append((clock.monotonic(), headers["Authorization"]))
        return HttpResponse(200 if self.takes(headers["Authorization"]) else 401, b"{}")


def test_however_many_ask_at_once_the_plugin_runs_once(virtual_time):
    plugin = Plugin()

    async def work():
        renewal = Renewal(plugin)
        return await asyncio.gather(*(renewal.current() for _ in range(50)))

    assert {access.authorization for access in asyncio.run(work())} == {"Bearer t1"}
    assert plugin.calls == 1


def test_who_gives_up_waiting_takes_nothing_from_the_others(virtual_time):
    plugin = Plugin()

    async def work():
        renewal = Renewal(plugin)
        first, second = (asyncio.create_task(renewal.current()) for _ in range(2))
        await asyncio.sleep(0.5)
        first.cancel()
        return await second

    assert asyncio.run(work()).authorization == "Bearer t1"
    assert plugin.calls == 1


def test_a_watch_of_two_hours_is_never_refused_and_never_waits(virtual_time):
    plugin = Plugin(takes=10.0)

    async def work():
        renewal = Renewal(plugin)
        ends = {}

        def takes(token):
            ends.setdefault(token, clock.epoch() + LIFE)
            return clock.epoch() < ends[token]

        server = Server(renewal, takes)
        await renewal.current()
        begun = clock.monotonic()
        for _ in range(7200):
            assert (await server.call_api("/", "GET")).status == 200
            await asyncio.sleep(1.0)
        return clock.monotonic() - begun

    assert asyncio.run(work()) == pytest.approx(7200)
    assert plugin.calls == 9


def test_a_plugin_that_fails_for_a_while_costs_nothing_as_long_as_the_token_lives(virtual_time):
    plugin = Plugin()

    async def work():
        renewal = Renewal(plugin)
        await renewal.current()
        plugin.broken = True
        await asyncio.sleep(LIFE - MARGIN + 1)
        for _ in range(20):
            assert (await renewal.current()).authorization == "Bearer t1"
            await asyncio.sleep(1.0)
        tried, plugin.broken = plugin.calls, False
        await asyncio.sleep(2 * RETRY_SECONDS)
        await renewal.current()
        await asyncio.sleep(plugin.takes + 0.1)
        return tried, await renewal.current()

    tried, access = asyncio.run(work())
    assert tried <= 1 + 20 / RETRY_SECONDS
    assert access.authorization != "Bearer t1"


def test_what_is_over_and_cannot_be_renewed_is_tried_all_the_same(virtual_time):
    """The clock of this machine may be wrong, and then the token is as good as before."""
    plugin = Plugin()

    async def work():
        renewal = Renewal(plugin)
        await renewal.current()
        plugin.broken = True
        await asyncio.sleep(LIFE + 1)
        return await Server(renewal, lambda token: True).call_api("/", "GET")

    assert asyncio.run(work()).status == 200


def test_a_refused_token_is_renewed_once_for_all_who_were_refused(virtual_time):
    plugin = Plugin(life=1e9)

    async def work():
        renewal = Renewal(plugin)
        server = Server(renewal, lambda token: token != "Bearer t1")
        found = await asyncio.gather(*(server.call_api("/", "PATCH") for _ in range(20)))
        return [one.status for one in found]

    assert asyncio.run(work()) == [200] * 20
    assert plugin.calls == 2


def test_a_second_refusal_is_an_error_that_names_who_and_runs_no_plugin_for_a_while(virtual_time):
    plugin = Plugin(life=1e9)

    async def work():
        server = Server(Renewal(plugin), lambda token: False)
        for _ in range(10):
            with pytest.raises(KubeError, match=r"GET /a: 401, user ada is refused") as refused:
                await server.call_api("/a", "GET")
            assert "t1" not in str(refused.value) and "t2" not in str(refused.value)
            assert (refused.value.status, refused.value.passing) == (401, False)
        before = plugin.calls
        await asyncio.sleep(RETRY_SECONDS + 1)
        with pytest.raises(KubeError):
            await server.call_api("/a", "GET")
        return before

    assert asyncio.run(work()) == 2
    assert plugin.calls == 3


def test_a_plugin_that_fails_after_a_refusal_says_so(virtual_time):
    plugin = Plugin()

    async def work():
        renewal = Renewal(plugin)
        await renewal.current()
        plugin.broken = True
        await Server(renewal, lambda token: False).call_api("/", "GET")

    with pytest.raises(NoAccess, match="the plugin failed"):
        asyncio.run(work())


def test_a_pod_that_says_401_behind_the_clusters_proxy_is_not_the_cluster(virtual_time):
    plugin = Plugin()

    async def work():
        server = Server(Renewal(plugin), lambda token: False)
        return await server.call_api("/api/v1/namespaces/n/pods/a:80/proxy/-/drain", "POST")

    assert asyncio.run(work()).status == 401
    assert plugin.calls == 1


@given(
    life=st.floats(1.0, 300.0), takes=st.floats(0.0, 20.0), every=st.floats(1.0, 30.0),
    outage=st.tuples(st.floats(0, 200), st.floats(0, 100)),
)  # fmt: skip
def test_whatever_happens_a_token_that_lives_is_used_and_another_comes_when_there_is_one(life, takes, every, outage):
    """Never two plugins at once; never an error while the token in hand is good; good again after an outage."""
    time, plugin, running, most = VirtualTime(), Plugin(takes, life), 0, 0
    down, ends = (outage[0], outage[0] + outage[1]), {}

    def good(token):
        return clock.monotonic() < ends[token]

    async def fetch():
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            plugin.broken = down[0] <= clock.monotonic() < down[1]
            access = await plugin()
            now = ends[access.authorization] = clock.monotonic() + life
            return replace(access, renew_at=now - life / 4, ends_at=now)
        finally:
            running -= 1

    async def work():
        server = Server(Renewal(fetch), good)
        while clock.monotonic() < down[1] + 100 + life:
            had_a_good_one = any(good(token) for token in ends)
            try:
                await server.call_api("/", "GET")
            except KubeError:
                assert not had_a_good_one
            await asyncio.sleep(every)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "epoch", clock.monotonic)
        time.run(work())
    assert most == 1
    assert good_at_the_end(ends, time.now, life, takes, every)


def good_at_the_end(ends, now, life, takes, every):
    """Some token was got not longer ago than one life and one look."""
    return max(ends.values()) >= now - every - RETRY_SECONDS - takes
