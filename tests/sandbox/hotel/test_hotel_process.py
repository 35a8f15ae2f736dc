"""A pod as a process: start, drain, SIGTERM, and the ways in which bad releases are bad."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect as websocket

from sandbox.hotel.scripts.checks import Client
from tests.sandbox.hotel.conftest import ADMIN_TOKEN, PodProcess, log_in

pytestmark = pytest.mark.sandbox

Start = Callable[..., PodProcess]
PROBE = {"User-Agent": "kube-probe/1.36"}


def connect(pod: PodProcess) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(pod.url).netloc, timeout=10)


def get(connection: http.client.HTTPConnection, path: str = "/banner", **headers: str) -> http.client.HTTPResponse:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


class Stream(threading.Thread):
    """Reads /events until it ends."""

    def __init__(self, pod: PodProcess) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(pod.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=10)
        self.socket.sendall(b"GET /events HTTP/1.1\r\nHost: pms\r\n\r\n")
        self.data = self.socket.recv(1000)
        self.start()

    def run(self) -> None:
        while data := self.socket.recv(1000):
            self.data += data

    @property
    def ended_well(self) -> bool:
        self.join(5)
        return not self.is_alive() and b"event: bye" in self.data and self.data.endswith(b"0\r\n\r\n")


def test_draining_says_close_ends_streams_and_can_be_undone(start_pod: Start, database: str) -> None:
    pod = start_pod(database)
    client, kept, stream = Client(pod.url), connect(pod), Stream(pod)
    assert get(kept).headers["Connection"] is None
    assert client.want(200, "POST", "/-/drain", token=ADMIN_TOKEN)["draining"] is True
    answer = get(kept)
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert kept.sock is None or kept.sock.recv(1) == b""
    assert stream.ended_well
    assert client.want(200, "DELETE", "/-/drain", token=ADMIN_TOKEN) == {"draining": False, "streams": 0}
    kept = connect(pod)
    assert get(kept).headers["Connection"] is None
    assert get(kept).status == 200


def test_draining_tells_a_websocket_to_go_away(start_pod: Start, database: str) -> None:
    pod = start_pod(database)
    with websocket(f"ws://{urlsplit(pod.url).netloc}/ws", proxy=None) as client:
        assert json.loads(client.recv(timeout=5))["version"]
        Client(pod.url).want(200, "POST", "/-/drain", token=ADMIN_TOKEN)
        assert all(json.loads(message)["version"] for message in client)  # ends when it is closed properly
        assert client.close_code == 1001
    assert Client(pod.url).want(200, "DELETE", "/-/drain", token=ADMIN_TOKEN) == {"draining": False, "streams": 0}


def test_sigterm_finishes_what_runs(start_pod: Start, database: str) -> None:
    pod = start_pod(database)
    Client(pod.url).want(200, "POST", "/-/fault", {"mode": "slow", "delay_seconds": 1}, token=ADMIN_TOKEN)
    slow, stream, statuses = connect(pod), Stream(pod), []
    worker = threading.Thread(target=lambda: statuses.append(get(slow).status))
    worker.start()
    time.sleep(0.3)
    begin = time.monotonic()
    pod.process.terminate()
    time.sleep(0.1)
    assert get(connect(pod), "/health", **PROBE).status == 200  # its address may still be in a load balancer
    assert pod.wait() == 0
    assert time.monotonic() - begin < 4
    worker.join()
    assert statuses == [200]
    assert stream.ended_well
    lines = [json.loads(line) for line in pod.output]
    assert [line["message"] for line in lines] == ["serving", "fault set", "stopping", "stopped"]
    assert all({"at", "level", "version", "pod"} <= line.keys() for line in lines)


def test_an_idle_pod_stops_quickly(start_pod: Start, database: str) -> None:
    pod = start_pod(database)
    idle = connect(pod)
    get(idle)
    begin = time.monotonic()
    assert pod.stop() == 0
    assert time.monotonic() - begin < 2


def test_v1_4_0_does_not_start(start_pod: Start, database: str) -> None:
    pod = start_pod(database, ready=False, PMS_FAULT="start")
    assert pod.wait() == 1
    assert "cannot start" in pod.output[-1]


@pytest.mark.parametrize("wrong", [{"JWT_SECRET": ""}, {"PORT": "x"}, {"PMS_FAULT": "x"}])
def test_wrong_settings_are_named(start_pod: Start, wrong: dict[str, str]) -> None:
    pod = start_pod("postgresql://x@127.0.0.1:1/x", ready=False, **({"PORT": "1"} | wrong))
    assert pod.wait() == 1
    assert next(iter(wrong)) in json.loads(pod.output[-1])["message"]


def test_v1_2_0_fails_from_its_300th_request_on(start_pod: Start, database: str) -> None:
    pod = start_pod(database, PMS_FAULT="errors")  # becoming ready took one request
    connection = connect(pod)
    for _ in range(20):
        assert get(connection, "/health", **PROBE).status == 200
    assert {get(connection).status for _ in range(298)} == {200}
    assert {get(connection, path).status for path in ("/banner", "/health", "/nowhere")} == {500}
    assert get(connection, "/health", **PROBE).status == 200
    assert get(connection, "/metrics").status == 200


def test_v1_3_0_becomes_slow(start_pod: Start, database: str) -> None:
    pod = start_pod(database, PMS_FAULT="slow")
    connection = connect(pod)
    for _ in range(298):
        get(connection)
    begin = time.monotonic()
    assert get(connection, "/health", **PROBE).status == 200
    assert time.monotonic() - begin < 1
    assert get(connection).status == 200
    assert time.monotonic() - begin >= 1.5


def test_v1_5_0_breaks_only_what_the_smoke_test_asks(start_pod: Start, database: str) -> None:
    client = Client(start_pod(database, PMS_FAULT="smoke").url)
    log_in(client)
    client.want(500, "GET", "/rooms/availability?checkIn=2030-01-01&checkOut=2030-01-02")
    client.want(200, "GET", "/rooms")


def test_a_fault_can_be_set_and_taken_back(start_pod: Start, database: str) -> None:
    client = Client(start_pod(database).url)
    client.want(401, "POST", "/-/fault", {"mode": "errors"})
    client.want(400, "POST", "/-/fault", {"mode": "start"}, token=ADMIN_TOKEN)
    client.want(400, "POST", "/-/fault", {"mode": "slow", "delay_seconds": -1}, token=ADMIN_TOKEN)
    client.want(200, "POST", "/-/fault", {"mode": "errors"}, token=ADMIN_TOKEN)
    client.want(500, "GET", "/banner")
    client.want(200, "GET", "/metrics")
    client.want(200, "POST", "/-/fault", {"mode": "none"}, token=ADMIN_TOKEN)
    client.want(200, "GET", "/banner")
