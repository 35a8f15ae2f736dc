"""What a pod answers is bounded, over both transports: a page of metrics without end costs no more than a large one."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from handover.adapters.kube_access import Access, Renewal
from handover.adapters.kubeconfig import LightApi
from handover.adapters.kubernetes import KubeClient, PooledApi
from handover.ports.kube import MAX_POD_BYTES, KubeError

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

    server = web.Application()
    server.router.add_get("/{path:.*}", pod)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]

    async def access() -> Access:
        return Access(f"http://{host}:{port}", "somebody")

    api = transport(Renewal(access))
    try:
        return await KubeClient(api, "n").proxy("a", 8080, "/metrics"), sent
    finally:
        await api.aclose()
        await runner.cleanup()


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_an_answer_without_end_is_refused_by_its_size(transport):
    with pytest.raises(KubeError, match="413 the pod's answer is larger than 8388608 bytes") as error:
        asyncio.run(asked(transport, 0))
    assert (error.value.status, error.value.passing) == (413, False)


@pytest.mark.parametrize("transport", [PooledApi, LightApi])
def test_an_answer_of_the_greatest_size_is_read_whole(transport):
    body, sent = asyncio.run(asked(transport, MAX_POD_BYTES // len(PIECE)))
    assert (len(body), sent) == (MAX_POD_BYTES, MAX_POD_BYTES // len(PIECE))
