"""The service proxy: TCP from a Service's address to one of its ready pods, chosen for each connection.

Like kube-proxy it never looks inside: an established connection stays with its pod whatever happens to the Service,
and a connection whose pod refuses fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import Coroutine
from typing import Any

from sandbox.cluster.endpoints import NAME_LABEL
from sandbox.cluster.kinds import SERVICE, SLICE
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Change, Key, Object

log = logging.getLogger(__name__)

Address = tuple[str, int]
CHUNK = 65536
NO_PORTS: Object = {"spec": {"ports": []}}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ServiceProxy:
    """Listens on every Service's address and ports."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listening: dict[Address, asyncio.Server | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        registry.store.subscribe(self._changed)

    def choose(self, service: Key, port: int) -> Address | None:
        """A ready pod's address for the Service's port."""
        found, ports = [], (self._registry.store.get(SERVICE, service) or NO_PORTS)["spec"]["ports"]
        names = [one.get("name", "") for one in ports if one["port"] == port]
        for part in self._registry.store.objects(SLICE, service[0]):
            if (part["metadata"].get("labels") or {}).get(NAME_LABEL) == service[1]:
                numbers = [one["port"] for one in part["ports"] if one["name"] in names]
                ready = [one["addresses"][0] for one in part["endpoints"] if one["conditions"]["ready"]]
                found += [(address, number) for address in ready for number in numbers]
        return random.choice(found) if found else None

    def close(self) -> None:
        for server in self._listening.values():
            if server:
                server.close()

    def _changed(self, change: Change) -> None:
        if change.kind is not SERVICE:
            return
        wanted = _listeners(change.new)
        for address in wanted - self._listening.keys():
            self._listening[address] = None
            self._spawn(self._listen(change.key, address))
        for address in _listeners(change.old) - wanted:
            server = self._listening.pop(address, None)
            if server:
                server.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, service: Key, address: Address) -> None:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._spawn(_pass_on(self.choose(service, address[1]), reader, writer))

        try:
            server = await asyncio.start_server(accepted, *address, backlog=1024)
        except OSError as error:
            log.error("service %s/%s cannot listen on %s:%s: %s", *service, *address, error)
            self._listening.pop(address, None)
            return
        if address in self._listening:
            self._listening[address] = server
        else:
            server.close()


def _listeners(service: Object | None) -> set[Address]:
    """Where a Service listens."""
    spec = (service or NO_PORTS)["spec"]
    return {(spec["clusterIP"], port["port"]) for port in spec["ports"]}


async def _pass_on(backend: Address | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, both ways until both have ended; trouble on one side resets the other."""
    both = [writer]
    try:
        if backend is None:
            raise ConnectionError("no ready pod")
        back, there = await asyncio.open_connection(*backend)
        both.append(there)
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, there))
            group.create_task(_copy(back, writer))
    except* OSError:
        for one in both:
            _reset(one)
    finally:
        for one in both:
            one.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction. Its end is passed on as a half-close: the other direction goes on until it ends too."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if not writer.transport.is_closing():
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other end sees an error, not an orderly end."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
