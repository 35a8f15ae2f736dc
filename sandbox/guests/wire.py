"""An HTTP/1.1 client that tells how a connection failed, not only that it did.

Libraries retry, pool and wrap errors; here a refused, a reset, a cut and a silent connection must stay four things.
It understands what a service answers to us: lengths, chunks, and bodies that end with the connection.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import cast

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0

_HEADER = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|x-version|x-pod):[ \t]*([^\r\n]*)", re.IGNORECASE
)


class WireError(Exception):
    """A request got no whole answer. `kind`: refused, reset, cut (closed too early), timeout or other."""

    def __init__(self, kind: str, *, unanswered: bool = True) -> None:
        super().__init__(kind)
        self.kind = kind
        self.unanswered = unanswered
        """Not one byte of an answer had come, so the server may never have seen the request."""


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    version: str
    pod: str
    close: bool
    """The server will close the connection."""
    body: bytes = b""


class Wire(asyncio.Protocol):
    """One connection. Holds one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = b""
        self._answer: Answer | None = None
        self._length: int | None = None
        """Bytes of the body; -1 for chunks, None for a body that ends with the connection."""
        self.exchanges = 0
        self.lost = False
        """The other side has closed, or we have."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def request(self, data: bytes, seconds: float = ANSWER_SECONDS) -> asyncio.Future[Answer]:
        """Send a whole request; the future gives its Answer or raises WireError."""
        assert self._transport is not None
        assert self._waiter is None
        self._waiter = self._loop.create_future()
        self._timer = self._loop.call_later(seconds, self._fail, "timeout")
        self._transport.write(data)
        return self._waiter

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort() if self._waiter else self._transport.close()

    # --- what comes from the other side

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nobody asked: the connection cannot be trusted any more
            self.close()
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._answer is None and not self._read_head():
            return
        self._read_body()

    def eof_received(self) -> bool:
        self.lost = True
        return False  # close our side too

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._waiter is None:
            return
        if error is None and self._answer is not None and self._length is None:
            self._done(self._buffer)
        else:
            self._fail("cut" if error is None else "reset")

    def _read_head(self) -> bool:
        """Read status and headers; False while they are incomplete."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._buffer[: end + 2]
        self._buffer = self._buffer[end + 4 :]
        try:
            status = int(head[9:12])
            found = {key.lower(): value for key, value in _HEADER.findall(head)}
            chunked = found.get(b"transfer-encoding", b"").lower() == b"chunked"
            length = found.get(b"content-length")
            self._length = -1 if chunked else int(length) if length is not None else None
        except ValueError:
            self._fail("other")
            return False
        if status in (204, 304):
            self._length = 0
        close = self._length is None or found.get(b"connection", b"").lower() == b"close"
        version, pod = found.get(b"x-version", b"").decode(), found.get(b"x-pod", b"").decode()
        self._answer = Answer(status, version, pod, close)
        return True

    def _read_body(self) -> None:
        if self._length is None:
            return
        if self._length < 0:
            body = join_chunks(self._buffer)
            if body is not None:
                self._done(body)
        elif len(self._buffer) >= self._length:
            self._done(self._buffer[: self._length])

    # --- the end of an exchange

    def _end(self) -> asyncio.Future[Answer] | None:
        waiter, self._waiter = self._waiter, None
        if self._timer is not None:
            self._timer.cancel()
        return waiter

    def _done(self, body: bytes) -> None:
        answer, waiter = self._answer, self._end()
        assert answer is not None
        answer.body = body
        self._buffer, self._answer = b"", None
        self.exchanges += 1
        if answer.close:
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _fail(self, kind: str) -> None:
        unanswered = self._answer is None and not self._buffer
        waiter = self._end()
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(WireError(kind, unanswered=unanswered))


def join_chunks(data: bytes) -> bytes | None:
    """The body of a chunked answer, None while its last chunk is missing."""
    parts: list[bytes] = []
    position = 0
    while True:
        line = data.find(b"\r\n", position)
        if line < 0:
            return None
        size = int(data[position:line].partition(b";")[0], 16)
        begin, end = line + 2, line + 2 + size
        if len(data) < end + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(data[begin:end])
        position = end + 2


def kind_of(error: OSError) -> str:
    """The kind of a failure to connect."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "reset"
    return "timeout" if isinstance(error, TimeoutError) else "other"


async def connect(host: str, port: int, seconds: float = CONNECT_SECONDS) -> Wire:
    """A new connection; raises WireError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, wire = await loop.create_connection(lambda: Wire(loop), host, port)
    except OSError as error:  # a TimeoutError too
        raise WireError(kind_of(error)) from error
    return wire
