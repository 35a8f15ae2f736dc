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
from collections.abc import Callable
from typing import cast

from sandbox.cluster.controllers.endpoints import NAME_LABEL
from sandbox.cluster.kinds import SERVICE, SLICE
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Change, Key, Object

log = logging.getLogger(__name__)

Backend = tuple[str, int]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Splice(asyncio.Protocol):
    """One side of a proxied connection; what it receives goes to its peer."""

    def __init__(self, peer: Splice | None = None) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses of it

    def data_received(self, data: bytes) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """Half-close: the other direction goes on until it ends too."""
        if self.peer and self.peer.transport and not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and self.peer.transport and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self.peer = self.peer, None
        if peer and peer.transport and not peer.transport.is_closing():
            if exc is None:
                peer.transport.close()
            else:
                reset(peer.transport)


class Client(Splice):
    """The side that connected to us. What comes before its pod has accepted waits here."""

    def __init__(self, choose: Callable[[], Backend | None]) -> None:
        super().__init__()
        self._choose = choose
        self._early: list[bytes] = []
        self._early_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        backend = self._choose()
        if backend is None:
            reset(cast(asyncio.Transport, transport))
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(backend))

    def data_received(self, data: bytes) -> None:
        if self.peer is None and self.transport:
            self._early.append(data)
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        self._early_end = self.peer is None
        return super().eof_received()

    async def _connect(self, backend: Backend) -> None:
        assert self.transport
        try:
            _, peer = await asyncio.get_running_loop().create_connection(lambda: Splice(self), *backend)
        except OSError:
            reset(self.transport)
            return
        assert peer.transport
        if self.transport.is_closing():
            peer.transport.close()
            return
        self.peer = peer
        peer.transport.writelines(self._early)
        if self._early_end:
            peer.transport.write_eof()
        elif self._early:
            self._early.clear()
            self.transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that the other end sees an error, not an orderly end."""
    found = transport.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class ServiceProxy:
    """Listens on every Service's address and ports."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listening: dict[tuple[str, int], asyncio.Server | None] = {}
        self._ports: dict[Key, dict[tuple[str, int], str]] = {}  # service -> its addresses -> names of their ports
        self._backends: dict[tuple[Key, str], tuple[Backend, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        registry.store.subscribe(self._changed)

    def choose(self, service: Key, port_name: str) -> Backend | None:
        backends = self._backends.get((service, port_name))
        return random.choice(backends) if backends else None

    async def close(self) -> None:
        for server in self._listening.values():
            if server:
                server.close()

    def _changed(self, change: Change) -> None:
        if change.kind is SLICE:
            obj = change.new or change.old
            assert obj
            name = (obj["metadata"].get("labels") or {}).get(NAME_LABEL)
            if name:
                self._switch((change.key[0], name))
        elif change.kind is SERVICE:
            self._ports[change.key] = wanted = _listeners(change.new)
            for address in wanted.keys() - self._listening.keys():
                self._listening[address] = None
                self._later(self._listen(change.key, address))
            for address in _listeners(change.old).keys() - wanted.keys():
                server = self._listening.pop(address, None)
                if server:
                    server.close()

    def _switch(self, service: Key) -> None:
        """Take over the Service's slices: all its backends change at once, for every connection from now on."""
        found: dict[str, list[Backend]] = {}
        for obj in self._registry.store.objects(SLICE, service[0]):
            if (obj["metadata"].get("labels") or {}).get(NAME_LABEL) != service[1]:
                continue
            ready = [one["addresses"][0] for one in obj["endpoints"] or () if one["conditions"].get("ready", True)]
            for port in obj["ports"] or ():
                found.setdefault(port.get("name") or "", []).extend((address, port["port"]) for address in ready)
        for known in [key for key in self._backends if key[0] == service]:
            del self._backends[known]
        self._backends.update({(service, name): tuple(backends) for name, backends in found.items()})

    def _later(self, work: asyncio.Future[None] | object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, service: Key, address: tuple[str, int]) -> None:
        def choose() -> Backend | None:
            return self.choose(service, self._ports.get(service, {}).get(address, ""))

        try:
            server = await asyncio.get_running_loop().create_server(lambda: Client(choose), *address, backlog=1024)
        except OSError as error:
            log.error("service %s/%s cannot listen on %s:%s: %s", *service, *address, error)
            self._listening.pop(address, None)
            return
        if address in self._listening:
            self._listening[address] = server
        else:
            server.close()


def _listeners(service: Object | None) -> dict[tuple[str, int], str]:
    if service is None or service["spec"].get("clusterIP") in (None, "None", ""):
        return {}
    ports = service["spec"].get("ports") or ()
    return {(service["spec"]["clusterIP"], port["port"]): port.get("name", "") for port in ports}
