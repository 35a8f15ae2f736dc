"""Probes: one question asked again and again, and when its answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from sandbox.cluster.pods import container_port
from sandbox.cluster.store import Object

Execute = Callable[[list[str], float], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class Answer:
    ok: bool
    message: str = ""


class Prober:
    """Asks a container's handlers: HTTP, TCP or a command. Also runs the preStop hook's."""

    def __init__(self, pod: Object, execute: Execute) -> None:
        self._pod, self._execute = pod, execute

    async def ask(self, probe: Object) -> Answer:
        timeout = float(probe.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout):
                if "httpGet" in probe:
                    return await self._http(probe["httpGet"])
                if "tcpSocket" in probe:
                    _, writer = await asyncio.open_connection(*self._address(probe["tcpSocket"]))
                    writer.close()
                    return Answer(True)
                code, output = await self._execute(probe["exec"]["command"], timeout)
                return Answer(code == 0, output)
        except (aiohttp.ClientConnectorError, ConnectionError) as error:
            return Answer(False, f"connect: {getattr(error, 'strerror', None) or error}")
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Answer(False, str(error) or type(error).__name__)
        except TimeoutError:
            return Answer(False, f"no answer within {timeout:g} s")

    def _address(self, handler: Object) -> tuple[str, int]:
        port = container_port(self._pod, handler["port"])
        if port is None:
            raise ValueError(f"no port named {handler['port']}")
        return handler.get("host") or self._pod["status"]["podIP"], port

    async def _http(self, handler: Object) -> Answer:
        host, port = self._address(handler)
        headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
        headers |= {item["name"]: item["value"] for item in handler.get("httpHeaders") or ()}
        url = f"{handler.get('scheme', 'HTTP').lower()}://{host}:{port}{handler.get('path') or '/'}"
        connector = aiohttp.TCPConnector(force_close=True, ssl=False)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            await response.read()
            ok = 200 <= response.status < 400
            return Answer(ok, "" if ok else f"HTTP probe failed with statuscode: {response.status}")


async def probe(prober: Prober, spec: Object, turned: Callable[[bool], Any], failed: Callable[[str], Any]) -> None:
    """Ask for ever; `turned` hears of each crossing of a threshold, `failed` of each failure."""
    successes = failures = 0
    await asyncio.sleep(spec.get("initialDelaySeconds", 0))
    while True:
        answer = await prober.ask(spec)
        if answer.ok:
            successes, failures = successes + 1, 0
            if successes == spec.get("successThreshold", 1):
                turned(True)
        else:
            successes, failures = 0, failures + 1
            failed(answer.message)
            if failures == spec.get("failureThreshold", 3):
                turned(False)
        await asyncio.sleep(spec.get("periodSeconds", 10))
