"""A load balancer with pod addresses as targets, as clouds have them: `python -m sandbox.balancer --help`.

It lets a new pod in after some seconds of health checks of its own, and gives one that is behind the Service no more no
new connection at once; who is connected stays. Without a target it answers 503.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sandbox.processes import POLL_SECONDS
from sandbox.services.access import Access
from sandbox.settings import SandboxError

ENTRY_SECONDS = 5.0
LOOK_SECONDS, CHECK_SECONDS, START_SECONDS = 0.05, 1.0, 60.0
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
ACCESS = "BALANCER_ACCESS"
"""Environment variable: how to reach the cluster's API (`Access`), as JSON."""
NOBODY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK = 65536
Target = tuple[str, int]


@dataclass
class Balancer:
    """``since``: each pod behind the Service, to when its health checks began to pass, None while they do not."""

    health_path: str
    entry_seconds: float
    since: dict[Target, float | None] = field(default_factory=dict)
    fewest: int | None = None
    refused: int = 0
    _turn: Iterator[int] = field(default_factory=itertools.count)

    def targets(self) -> list[Target]:
        now = time.monotonic()
        return [one for one, at in self.since.items() if at is not None and now - at >= self.entry_seconds]

    async def look_for_ever(self, kube: httpx.Client, namespace: str, service: str) -> None:
        """At what is behind the Service. The first that are found were let in long ago."""
        checks: dict[Target, asyncio.Task[None]] = {}
        first = True
        while True:
            with suppress(httpx.HTTPError):
                behind = await asyncio.to_thread(_behind, kube, namespace, service)
                for gone in self.since.keys() - behind:
                    del self.since[gone]
                    checks.pop(gone).cancel()
                for new in behind - self.since.keys():
                    self.since[new] = float("-inf") if first else None
                    checks[new] = asyncio.create_task(self._check_for_ever(new))
                first = first and not behind
                if not first:
                    found = len(self.targets())
                    self.fewest = found if self.fewest is None else min(self.fewest, found)
            await asyncio.sleep(LOOK_SECONDS)

    async def _check_for_ever(self, target: Target) -> None:
        while True:
            healthy = await self._healthy(target)
            if healthy and self.since.get(target, 0.0) is None:
                self.since[target] = time.monotonic()
            elif not healthy and target in self.since:
                self.since[target] = None
            await asyncio.sleep(CHECK_SECONDS)

    async def _healthy(self, target: Target) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS * 2):
                reader, writer = await asyncio.open_connection(*target)
                writer.write(f"GET {self.health_path} HTTP/1.1\r\nHost: target\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                writer.close()
                return b" 200 " in status
        return False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, to one target."""
        with suppress(OSError, asyncio.CancelledError):
            targets = self.targets()
            if not targets:
                self.refused += 1
                await reader.read(CHUNK)
                writer.write(NOBODY)
                await writer.drain()
            else:
                theirs, ours = await asyncio.open_connection(*targets[next(self._turn) % len(targets)])
                await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
        writer.close()


def _behind(kube: httpx.Client, namespace: str, service: str) -> set[Target]:
    params = {"labelSelector": f"kubernetes.io/service-name={service}"}
    answer = kube.get(SLICES.format(namespace), params=params).raise_for_status()
    return {
        (end["addresses"][0], one["ports"][0]["port"])
        for one in answer.json()["items"] for end in one.get("endpoints") or () if end["conditions"].get("ready")
    }  # fmt: skip


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(CHUNK):
            to.write(data)
            await to.drain()
    with suppress(OSError):
        to.write_eof()


@contextmanager
def balanced(
    listen: Target, access: Mapping[str, str], namespace: str, service: str, health_path: str, out: Path
) -> Iterator[dict[str, Any]]:
    """A balancer in a process of its own; gives what it has seen once it has ended. Raises `SandboxError`."""
    argv = [
        sys.executable, "-m", "sandbox.balancer", "--listen", f"{listen[0]}:{listen[1]}", "--namespace", namespace,
        "--service", service, "--health-path", health_path, "--out", str(out),
    ]  # fmt: skip
    seen: dict[str, Any] = {}
    process = subprocess.Popen(argv, env=os.environ | {ACCESS: json.dumps(dict(access))})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not out.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SandboxError("the load balancer did not start")
            time.sleep(POLL_SECONDS)
        yield seen
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_SECONDS)
        seen |= json.loads(out.read_text())


async def _main(given: argparse.Namespace) -> None:
    host, _, port = given.listen.rpartition(":")
    balancer, over = Balancer(given.health_path, given.entry_seconds), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    with Access(**json.loads(os.environ[ACCESS])).client() as kube:
        looking = asyncio.create_task(balancer.look_for_ever(kube, given.namespace, given.service))
        while not balancer.targets():
            await asyncio.sleep(LOOK_SECONDS)
        async with await asyncio.start_server(balancer.serve, host, int(port)):
            given.out.write_text("{}")
            await asyncio.wait({asyncio.create_task(over.wait()), looking}, return_when=asyncio.FIRST_COMPLETED)
            given.out.write_text(json.dumps({"fewest_targets": balancer.fewest, "refused": balancer.refused}))
            looking.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.balancer", description=__doc__)
    for name in ("--listen", "--namespace", "--service", "--health-path"):
        parser.add_argument(name, required=True)
    parser.add_argument("--entry-seconds", type=float, default=ENTRY_SECONDS)
    parser.add_argument("--out", type=Path, required=True, help="JSON, written at the end")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
