"""Two guests who hold on: one to a stream of server-sent events, one to a WebSocket. They mind how these end."""

from __future__ import annotations

import asyncio
import json
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake

from sandbox.guests.tally import Tally
from sandbox.guests.wire import CONNECT_SECONDS, kind_of

SILENCE_SECONDS = 10.0
"""The service sends an event every half second; so much silence is a failure."""
PAUSE_SECONDS = 0.2
PATH = "/events"
SOCKET_PATH = "/ws"


async def _open(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(CONNECT_SECONDS):
        return await asyncio.open_connection(host, port)


async def _head(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and X-Version of the answer."""
    async with asyncio.timeout(SILENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers.get("x-version", "")


async def _read_to_end(reader: asyncio.StreamReader) -> bool:
    """Whether the stream was ended by the service: it says bye, or sends the last chunk."""
    tail = b""
    while True:
        async with asyncio.timeout(SILENCE_SECONDS):
            data = await reader.read(4096)
        if not data:
            return b"event: bye" in tail or tail.endswith(b"0\r\n\r\n")
        tail = (tail + data)[-256:]


async def _once(host: str, port: int, tally: Tally) -> None:
    """Open a stream and read it to its end; every end but a clean one counts as a failed request."""
    began = time.time()
    tally.send()
    writer = None
    try:
        reader, writer = await _open(host, port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        status, version = await _head(reader)
        if status == 200:
            tally.streams["opened"] += 1
            if not await _read_to_end(reader):
                raise asyncio.IncompleteReadError(b"", None)
            tally.streams["ended"] += 1
        tally.answer(status, version, PATH, began, fresh=False, timed=False)
    except asyncio.IncompleteReadError:
        tally.fail("cut", PATH, began, fresh=True)
    except (TimeoutError, OSError) as error:
        tally.fail(kind_of(error), PATH, began, fresh=True)
    finally:
        if writer is not None:
            writer.transport.abort()


async def _socket_once(host: str, port: int, tally: Tally) -> None:
    """Hold a WebSocket until it is closed; every close but a proper one counts as a failed request."""
    began, version = time.time(), ""
    tally.send()
    try:
        async with connect(f"ws://{host}:{port}{SOCKET_PATH}", proxy=None, open_timeout=CONNECT_SECONDS) as socket:
            tally.sockets["opened"] += 1
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    version = json.loads(await socket.recv())["version"]
    except ConnectionClosedOK:  # with 1000 or 1001
        tally.sockets["closed"] += 1
        tally.answer(101, version, SOCKET_PATH, began, fresh=False, timed=False)
    except ConnectionClosed:
        tally.fail("cut", SOCKET_PATH, began, fresh=True)
    except InvalidHandshake:
        tally.fail("other", SOCKET_PATH, began, fresh=True)
    except (TimeoutError, OSError) as error:
        tally.fail(kind_of(error), SOCKET_PATH, began, fresh=True)


async def hold_stream(host: str, port: int, tally: Tally) -> None:
    """Keep a stream open for ever; cancel to stop."""
    while True:
        await _once(host, port, tally)
        await asyncio.sleep(PAUSE_SECONDS)


async def hold_socket(host: str, port: int, tally: Tally) -> None:
    """Keep a WebSocket open for ever; cancel to stop."""
    while True:
        await _socket_once(host, port, tally)
        await asyncio.sleep(PAUSE_SECONDS)
