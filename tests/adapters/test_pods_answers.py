"""What a pod answers is bounded, over both transports: a page of metrics without end costs no more than a large one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from handover.adapters.kube_access import Access, Renewal
from handover.adapters.kubeconfig import LightApi
from handover.adapters.kubernetes import KubeClient, PooledApi
from handover.ports.kube import MAX_CLUSTER_BYTES, MAX_LOG_LINES, MAX_POD_BYTES, KubeError

PIECE = b"a" * 2**16


async def asked(transport, pieces: int) -> tuple[str, int]:
    """What comes of asking a pod that would send so many pieces (0: for ever), and how many it has sent."""
    sent = 0

    async def pod(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while not pieces or sent < pieces:
            await answer.write(PIECE)
            sent += 1
        return answer

    async with serving(pod) as url, aclosing(transport(Renewal(access_to(url)))) as api:
        return await KubeClient(api, "n").proxy("a", 8080, "/metrics"), sent


@asynccontextmanager
async def serving(answer):
    """The address of a cluster that answers every request so."""
    server = web.Application()
    server.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def access_to(url: str):
    async def access() -> Access:
        return Access(url, "somebody")

    return access


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_an_answer_without_end_is_refused_by_its_size(transport):
    with pytest.raises(KubeError, match="413 the pod's answer is larger than 8388608 bytes") as error:
        asyncio.run(asked(transport, 0))
    assert (error.value.status, error.value.passing) == (413, False)


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_an_answer_of_the_greatest_size_is_read_whole(transport):
    body, sent = asyncio.run(asked(transport, MAX_POD_BYTES // len(PIECE)))
    assert (len(body), sent) == (MAX_POD_BYTES, MAX_POD_BYTES // len(PIECE))


async def printed(transport, said: bytes) -> tuple[str, str]:
    """What is read of a log, and what was asked for; by a cluster that minds no limit."""
    asked = ""

    async def log(request: web.Request) -> web.Response:
        nonlocal asked
        asked = request.query_string
        return web.Response(body=said)

    async with serving(log) as url, aclosing(transport(Renewal(access_to(url)))) as api:
        return await KubeClient(api, "n").logs("a", "c"), asked


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_of_what_a_container_has_printed_only_the_end_is_asked_for(transport):
    said, asked = asyncio.run(printed(transport, b"hello"))
    assert said == "hello"
    assert asked == f"container=c&tailLines={MAX_LOG_LINES}&limitBytes={MAX_POD_BYTES}"


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_a_log_that_is_larger_nevertheless_is_refused(transport):
    with pytest.raises(KubeError, match="413 the pod's answer is larger"):
        asyncio.run(printed(transport, b"a" * (MAX_POD_BYTES + 1)))


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_the_clusters_own_answers_have_an_end_too(transport):
    """Others may write its objects."""

    async def listed() -> None:
        async def pods(_: web.Request) -> web.Response:
            return web.Response(body=b" " * (MAX_CLUSTER_BYTES + 1))

        async with serving(pods) as url, aclosing(transport(Renewal(access_to(url)))) as api:
            await KubeClient(api, "n").list("pods")

    with pytest.raises(KubeError, match="413 the cluster's answer is larger"):
        asyncio.run(listed())


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_a_pods_long_header_is_read_and_its_cookie_is_taken_to_no_other_pod(transport):
    """A cookie is the cluster's for a client that keeps any: it has the address of the pod's answer."""

    async def looked() -> list[bool]:
        cookies = []

        async def pod(request: web.Request) -> web.Response:
            cookies.append("Cookie" in request.headers)
            headers = {"Content-Security-Policy": "a" * 20_000, "Set-Cookie": "session=1; Path=/"}
            return web.Response(text="ok", headers=headers)

        async with serving(pod) as url:
            by_name = url.replace("127.0.0.1", "localhost")
            async with aclosing(transport(Renewal(access_to(by_name)))) as api:
                for name in ("a", "b"):
                    assert await KubeClient(api, "n").proxy(name, 8080, "/health") == "ok"
        return cookies

    assert asyncio.run(looked()) == [False, False]
