"""How a probe or a hook asks its container: over HTTP, or by running a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from sandbox.cluster.objects import container_port
from sandbox.cluster.store import Object

Execute = Callable[[list[str]], Awaitable[tuple[int, str]]]


async def ask(handler: Object, pod: Object, execute: Execute, timeout: float) -> str:
    """Call a probe's or a hook's handler; returns what is wrong, nothing if all is well."""
    try:
        async with asyncio.timeout(timeout):
            if "httpGet" in handler:
                return await _http(handler["httpGet"], pod)
            code, output = await execute(handler["exec"]["command"])
            return "" if code == 0 else output or f"exit code {code}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    except TimeoutError:
        return f"no answer within {timeout:g} s"


async def _http(handler: Object, pod: Object) -> str:
    port = container_port(pod, handler["port"])
    headers = {"User-Agent": "kube-probe/1.36", "Connection": "close"}
    headers |= {item["name"]: item["value"] for item in handler.get("httpHeaders") or ()}
    url = f"http://{pod['status']['podIP']}:{port}{handler.get('path', '/')}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        await response.read()
        good = 200 <= response.status < 400
        return "" if good else f"HTTP probe failed with statuscode: {response.status}"
