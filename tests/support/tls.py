"""TLS in front of a PostgreSQL that has none, as its protocol begins it: for what clients ask of a certificate."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SSL_REQUEST, GSS_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x00\x00\x00\x08\x04\xd2\x16\x30"


@dataclass
class Front:
    """``encrypted``: sessions that got through; ``plain``: clients that began to speak without TLS, and were left."""

    server: tuple[str, int]
    context: ssl.SSLContext
    listener: socket.socket
    encrypted: int = 0
    plain: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            asked = client.recv(8, socket.MSG_WAITALL)
            if asked == GSS_REQUEST:
                client.sendall(b"N")
                asked = client.recv(8, socket.MSG_WAITALL)
            if asked != SSL_REQUEST:
                self.plain += [asked] if asked else []
                return
            client.sendall(b"S")
            with (
                self.context.wrap_socket(client, server_side=True) as private,
                socket.create_connection(self.server) as behind,
            ):
                self.encrypted += 1
                _pass_on(private, behind)


def _pass_on(private: ssl.SSLSocket, behind: socket.socket) -> None:
    while True:
        ready = [private] if private.pending() else select.select([private, behind], [], [])[0]
        for one in ready:
            if not (data := one.recv(65536)):
                return
            (behind if one is private else private).sendall(data)


@contextmanager
def tls_before(server: tuple[str, int], context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[Front]:
    with socket.create_server((host, 0), backlog=64) as listener:
        front = Front(server, context, listener)
        threading.Thread(target=front.accept, daemon=True).start()
        yield front
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake who accepts
