"""A small real HTTP server for tests; what it answers is a function of the request."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    peer: str = ""
    """The common name of the client's certificate."""


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    host: str
    port: int
    asked: list[Asked] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5 a burst of connections waits a second for its second try

    def handle_error(self, *_: object) -> None:
        """A client that gave up, or whose certificate was refused, is no news."""


@contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """Host and port of a server that takes every connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()


@contextmanager
def nobody() -> Iterator[tuple[str, int]]:
    """Host and port at which nobody listens, nor ever will while the block runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long Python's own clients, and `requests`, would have waited, in seconds; they give up at once."""
    asked, connect, send = list[float](), socket.create_connection, HTTPAdapter.send

    def impatient(address: Any, timeout: float, *more: Any) -> socket.socket:
        asked.append(timeout)
        return connect(address, 0.05, *more)

    def hurried(self: HTTPAdapter, request: PreparedRequest, *more: Any, **how: Any) -> Response:
        asked.append(how["timeout"])
        return send(self, request, *more, **{**how, "timeout": 0.05})

    monkeypatch.setattr(socket, "create_connection", impatient)
    monkeypatch.setattr(HTTPAdapter, "send", hurried)
    return asked


@contextmanager
def serving(answer: Callable[[Asked], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            form = "x-www-form-urlencoded" in headers.get("content-type", "")
            body = dict(parse_qsl(text.decode())) if form else json.loads(text) if text else None
            asked = Asked(self.command, self.path, headers, body, _common_name(self.connection))
            web.asked.append(asked)
            given = answer(asked)
            said = given.body if isinstance(given.body, bytes) else json.dumps(given.body).encode()
            said = b"" if given.status in (204, 304) else said  # these have none, whatever their headers say
            self.send_response(given.status)
            for key, value in given.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client may have given up
                if self.command != "HEAD":
                    self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        web = Web("127.0.0.1", server.server_port, scheme="https" if tls else "http")
        if tls:  # the handshake belongs to the connection's own thread
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join(5)


def _common_name(connection: socket.socket) -> str:
    shown = (connection.getpeercert() or {}) if isinstance(connection, ssl.SSLSocket) else {}
    return dict(part for parts in shown.get("subject", ()) for part in parts).get("commonName", "")
