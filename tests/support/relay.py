"""A way to a TCP server that can be cut, or say nothing any more: for what must live through an outage."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Listens on ``host`` and ``port``, and passes everything on to ``server``."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host, self.port = self._listener.getsockname()[:2]
        self._open = threading.Event()
        self._open.set()
        self._cut = False
        self._held: list[socket.socket] = []

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody is there: what is open breaks off, and what is opened is closed."""
        self._cut = True
        self._drop()
        yield
        self._cut = False

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Every connection is taken, and nothing is ever said on it."""
        self._open.clear()
        yield
        self._drop()
        self._open.set()

    def _drop(self) -> None:
        held, self._held = self._held, []
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self._cut:
                    client.close()
                    continue
                self._held.append(client)
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        self._open.wait()
        with contextlib.suppress(OSError):
            server = socket.create_connection(self._server)
            self._held.append(server)
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()
            self._copy(client, server)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self._open.set()
        self._drop()


@contextmanager
def relayed(server: tuple[str, int]) -> Iterator[Relay]:
    relay = Relay(server)
    thread = threading.Thread(target=relay._accept, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
