"""What the guests count, against small real servers that misbehave in one way each."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from sandbox.guests.crowd import KEEP_ALIVE, Crowd
from sandbox.guests.stream import hold_socket
from sandbox.guests.tally import Latencies, Tally
from sandbox.guests.wire import join_chunks

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Behave = Callable[[Reader, Writer], Awaitable[None]]
ROOT = str(Path(__file__).resolve().parents[3])
RATE = 100.0
SECONDS = 0.6

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Version: v1\r\n\r\n[]"
OK_CLOSE = OK.replace(b"X-Version", b"Connection: close\r\nX-Version")


async def read_request(reader: Reader) -> bytes:
    """Head of a request, its body read and dropped; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head


def reset(writer: Writer) -> None:
    """Close with a TCP reset."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answers(answer: bytes, *, times: int = 10**9, end: Callable[[Writer], None] | None = None) -> Behave:
    """Answers so many requests of a connection, then ends it (by closing, unless told otherwise)."""

    async def behave(reader: Reader, writer: Writer) -> None:
        for _ in range(times):
            if not (head := await read_request(reader)):
                break
            writer.write(answer)
            if b"Connection: close" in head:
                break
        (end or Writer.close)(writer)

    return behave


async def crowd_meets(behave: Behave, **more: Any) -> Crowd:
    """A crowd that has sent to such a server for a while."""

    async def serve(reader: Reader, writer: Writer) -> None:
        try:
            await behave(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    crowd = Crowd(f"http://127.0.0.1:{port}", RATE, **({"stream": False, "answer_seconds": 0.2, "seed": 1} | more))
    try:
        await crowd.run(SECONDS)
    finally:
        server.close()
    return crowd


def met(behave: Behave, **more: Any) -> dict[str, Any]:
    return asyncio.run(crowd_meets(behave, **more)).tally.summary()


def kinds(summary: dict[str, Any]) -> dict[str, int]:
    return {kind: count for kind, count in summary["failed_by_kind"].items() if count}


def test_a_good_server_fails_nothing() -> None:
    result = met(answers(OK))
    assert result["sent"] == result["answered"] == pytest.approx(RATE * SECONDS, abs=2)
    assert (result["failed"], result["bad_answers"], result["reopened"], result["waiting"]) == (0, 0, 0, 0)
    assert result["by_version"] == {"v1": result["sent"]}
    assert result["statuses"] == {"200": result["sent"]}
    seen = result["new_connections"]["v1"]
    assert seen["first_answered"] <= seen["last_answered"] <= result["at"]
    assert sum(second[1] for second in result["timeline"]) == result["sent"]


@pytest.mark.parametrize(
    "answer",
    [
        OK_CLOSE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_answers_of_every_form_are_read(answer: bytes) -> None:
    result = met(answers(answer))
    assert (result["failed"], result["answered"]) == (0, result["sent"])


def test_a_body_may_end_with_the_connection() -> None:
    result = met(answers(b"HTTP/1.1 200 OK\r\n\r\n[]", times=1))
    assert (result["failed"], result["answered"]) == (0, result["sent"])


def test_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening
        crowd = Crowd(f"http://127.0.0.1:{closed.getsockname()[1]}", RATE, stream=False)
        result = asyncio.run(crowd.run(SECONDS))
    assert kinds(result) == {"refused": result["sent"]}
    assert 0 < result["failed_seconds"] <= SECONDS + 0.2


def test_reset_before_the_answer() -> None:
    async def behave(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        reset(writer)

    result = met(behave)
    assert kinds(result) == {"reset": result["sent"]}


def test_cut_within_the_answer() -> None:
    result = met(answers(OK[:-1], times=1))
    assert kinds(result) == {"cut": result["sent"]}


def test_cut_instead_of_an_answer() -> None:
    result = met(answers(b"", times=1))
    assert kinds(result) == {"cut": result["sent"]}


def test_timeout() -> None:
    async def behave(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(2)

    result = met(behave)
    assert kinds(result) == {"timeout": result["sent"]}


def test_nonsense_is_a_failure_too() -> None:
    result = met(answers(b"SSH-2.0-hello there\r\n\r\n", times=1))
    assert kinds(result) == {"other": result["sent"]}


def test_bad_answers_are_counted_with_their_times(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    bad = OK.replace(b"200 OK", b"500 Internal Server Error")
    result = met(answers(bad), events=events)
    assert (result["failed"], result["bad_answers"]) == (0, result["sent"])
    assert result["bad_by_version"] == {"v1": result["sent"]}
    assert result["bad_seconds"] == pytest.approx(SECONDS, abs=0.2)
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert len(lines) == result["sent"]
    assert {"at", "status", "version", "path", "seconds", "fresh"} == lines[0].keys()


def test_a_connection_closed_while_idle_is_not_a_failure() -> None:
    """The server closes every connection after an answer, without having said so."""

    async def behave(reader: Reader, writer: Writer) -> None:
        if await read_request(reader):
            writer.write(OK)
            await asyncio.sleep(0.005)

    result = met(behave)
    assert (result["failed"], result["answered"]) == (0, result["sent"])
    assert result["reopened"] > 5


def test_a_close_that_races_with_a_request_is_repeated_only_if_that_is_safe() -> None:
    """Kept connections are cut as soon as their second request arrives."""

    async def behave(reader: Reader, writer: Writer) -> None:
        if await read_request(reader):
            writer.write(OK)
            await read_request(reader)

    result = met(behave)
    assert kinds(result) == {}  # without a login there are only safe requests
    assert result["reopened"] > 5


def test_a_post_on_a_connection_that_is_cut_fails() -> None:
    async def behave(reader: Reader, writer: Writer) -> None:
        while head := await read_request(reader):
            if head.startswith(b"POST /auth/login"):
                body = b'{"token": "t"}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                return
            if head.startswith(b"POST") and b"Connection: close" not in head:
                return
            writer.write(OK)
            if b"Connection: close" in head:
                return

    result = met(behave, email="a@b.c", password="x")
    failed = kinds(result)
    assert set(failed) == {"cut"}
    assert 0 < failed["cut"] < result["sent"]


def test_kept_connections_are_few_and_reused() -> None:
    connections = requests = 0
    inner = answers(OK)

    async def behave(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await inner(reader, writer)

    result = met(behave)
    requests = result["sent"]
    assert connections < requests * 0.8 + KEEP_ALIVE


def streaming(end: bytes) -> Behave:
    async def behave(reader: Reader, writer: Writer) -> None:
        if b"GET /events" not in await read_request(reader):
            writer.write(OK_CLOSE)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nX-Version: v1\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"4\r\na: b\r\n")
        await asyncio.sleep(0.05)
        writer.write(end)

    return behave


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"c\r\nevent: bye\n\n\r\n"])
def test_a_stream_that_ends_well_is_opened_again(end: bytes) -> None:
    result = met(streaming(end), stream=True)
    assert result["failed"] == 0
    assert result["streams"]["ended"] >= 2


def test_a_stream_that_is_cut_is_a_failure() -> None:
    result = met(streaming(b""), stream=True)
    assert result["failed"] == kinds(result)["cut"] >= 2
    assert result["streams"]["ended"] == 0


def held(end: Callable[[ServerConnection], Awaitable[None]]) -> dict[str, Any]:
    """One guest with a WebSocket at a server that sends a message and then ends it in this way."""

    async def talk(client: ServerConnection) -> None:
        await client.send(json.dumps({"version": "v1"}))
        await end(client)

    async def run() -> dict[str, Any]:
        tally = Tally()
        async with serve(talk, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            holding = asyncio.create_task(hold_socket("127.0.0.1", port, tally))
            await asyncio.sleep(SECONDS)
            holding.cancel()
        return tally.summary()

    return asyncio.run(run())


def test_a_websocket_that_is_told_to_go_away_is_opened_again() -> None:
    result = held(lambda client: client.close(1001))
    assert (result["failed"], result["by_version"]) == (0, {"v1": result["sockets"]["closed"]})
    assert result["sockets"]["closed"] >= 2


def test_a_websocket_that_is_cut_is_a_failure() -> None:
    async def cut(client: ServerConnection) -> None:
        client.transport.abort()

    result = held(cut)
    assert result["failed"] == kinds(result)["cut"] >= 2
    assert result["sockets"]["closed"] == 0


def test_overload_is_counted_instead_of_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.guests.crowd.MOST_WAITING", 5)

    async def behave(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(2)

    result = met(behave, answer_seconds=1.0)
    assert result["overload"] > 20
    assert result["sent"] <= 10


def test_a_slow_server_does_not_slow_the_guests() -> None:
    async def behave(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        await asyncio.sleep(0.3)
        writer.write(OK_CLOSE)

    result = met(behave, answer_seconds=5.0)
    assert result["answered"] == result["sent"] == pytest.approx(RATE * SECONDS, abs=2)
    assert result["latency_ms"]["p50"] == pytest.approx(300, rel=0.1)


def test_the_program_writes_as_it_goes_and_stops_on_sigterm(tmp_path: Path) -> None:
    out = tmp_path / "guests.json"

    def use(url: str) -> None:
        words = ["--url", url, "--rate", "50", "--out", str(out), "--no-stream"]
        command = [sys.executable, "-m", "sandbox.guests", *words]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ROOT}, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not (out.exists() and json.loads(out.read_text())["answered"] > 20):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.terminate()
            assert process.wait(5) == 0
        finally:
            process.kill()

    async def run() -> None:
        async with await asyncio.start_server(answers(OK), "127.0.0.1", 0) as server:
            await asyncio.to_thread(use, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(run())
    result = json.loads(out.read_text())
    assert (result["failed"], result["waiting"]) == (0, 0)
    assert not out.with_name("guests.json.new").exists()


def test_percentiles_are_within_two_percent() -> None:
    latencies = Latencies()
    assert latencies.percentile(0.5) is None
    for number in range(1, 10_001):
        latencies.add(number / 10_000)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert latencies.percentile(share) == pytest.approx(share, rel=0.021)
    assert latencies.highest == 1.0


def test_an_empty_run_has_a_summary() -> None:
    summary = Tally().summary()
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None, "max": 0.0}
    assert summary["bad_first"] is None


def test_chunks() -> None:
    assert join_chunks(b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == b"abc"
    for part in (b"", b"2\r\nab", b"2\r\nab\r\n", b"2\r\nab\r\n0\r\n"):
        assert join_chunks(part) is None


@pytest.mark.parametrize("url", ["https://127.0.0.1", "127.0.0.1:80", "http://"])
def test_wrong_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        Crowd(url)
