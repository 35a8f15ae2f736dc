"""Every call of the service, on a real database, with the schema before v1.1.0's migration."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from sandbox.hotel import seed
from sandbox.hotel.scripts.checks import Client
from sandbox.hotel.scripts.e2e import serving
from sandbox.hotel.security import issue_token
from tests.sandbox.hotel.conftest import ADMIN_TOKEN, HEALTH_TOKEN, JWT_SECRET, PASSWORD, log_in, settings

pytestmark = pytest.mark.sandbox

STAY = {"roomId": "123", "checkIn": "2024-12-25", "checkOut": "2024-12-27"}


@pytest.fixture(scope="module")
def url(shared_database: str) -> Iterator[str]:
    with serving(settings(shared_database)) as address:
        yield address


@pytest.fixture
def client(url: str) -> Client:
    return Client(url)


@pytest.fixture
def guest(client: Client) -> Client:
    log_in(client)
    return client


def raw(url: str, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_every_answer_names_version_and_pod(url: str) -> None:
    for path in ("/health", "/nowhere", "/bookings", "/metrics"):
        answer, _ = raw(url, "GET", path)
        assert (answer.headers["X-Version"], answer.headers["X-Pod"]) == ("v1.1.0", "pod-1")


def test_health(client: Client) -> None:
    assert client.want(200, "GET", "/health") == {"status": "ok", "version": "v1.1.0", "database": "ok"}
    client.want(200, "GET", "/health", token=HEALTH_TOKEN)
    client.want(401, "GET", "/health", token="wrong")


def test_health_without_a_database() -> None:
    with serving(settings("postgresql://postgres@127.0.0.1:1/none")) as url:
        client = Client(url)
        assert client.want(503, "GET", "/health")["database"] == "down"
        client.want(503, "GET", "/banner")


@pytest.mark.parametrize("body", [{"email": seed.TEST_EMAIL, "password": "x"}, {"email": "a@b.c", "password": "x"}])
def test_a_wrong_login_is_refused(client: Client, body: dict[str, str]) -> None:
    client.want(401, "POST", "/auth/login", body)


def test_a_token_ends_with_logout_and_with_time(guest: Client) -> None:
    guest.want(200, "GET", "/bookings")
    guest.want(204, "POST", "/auth/logout")
    guest.want(401, "GET", "/bookings")
    guest.want(401, "GET", "/bookings", token=issue_token(JWT_SECRET, 1, "guest", seconds=-1))
    guest.want(401, "GET", "/bookings", token=issue_token("x" * 72, 1, "guest"))


def test_a_logout_reaches_other_pods(shared_database: str, guest: Client) -> None:
    with serving(settings(shared_database)) as other:
        token = guest.token
        guest.want(204, "POST", "/auth/logout")
        second = Client(other)
        for _ in range(40):
            if second.call("GET", "/bookings", token=token)[0] == 401:
                return
            time.sleep(0.05)
        pytest.fail("the other pod still takes the token after two seconds")


def test_magic_link_tells_nobody_who_has_an_account(client: Client, shared_database: str) -> None:
    known = client.want(202, "POST", "/auth/magic-link", {"email": seed.TEST_EMAIL})
    assert client.want(202, "POST", "/auth/magic-link", {"email": "nobody@example.com"}) == known
    with psycopg.connect(shared_database) as connection:
        assert connection.execute("SELECT count(*) FROM magic_links").fetchone() == (1,)


def test_lists(guest: Client) -> None:
    for path, fields in (("/rooms", {"id", "number", "pricePerNight"}), ("/staff", {"id", "fullName", "position"})):
        first = guest.want(200, "GET", path)
        second = guest.want(200, "GET", f"{path}?page=2")
        assert len(first) == len(second) == 20
        assert fields <= first[0].keys()
        assert {one["id"] for one in first}.isdisjoint(one["id"] for one in second)
        guest.want(400, "GET", f"{path}?page=0")
        guest.want(401, "GET", path, token="nonsense")


def test_a_stay_from_booking_to_check_out(guest: Client) -> None:
    booking = guest.want(201, "POST", "/bookings", STAY)
    assert booking["status"] == "confirmed"
    assert guest.want(200, "GET", "/bookings")[0]["id"] == booking["id"]
    payment = guest.want(201, "POST", "/payments", {"bookingId": str(booking["id"]), "amount": 100})
    assert payment.keys() >= {"id", "status"}
    assert payment["status"] == "captured"
    path = f"/bookings/{booking['id']}"
    guest.want(409, "POST", f"{path}/check-out")
    guest.want(200, "POST", f"{path}/check-in")
    guest.want(200, "POST", f"{path}/check-out")
    guest.want(409, "POST", f"{path}/check-in")


def test_one_guest_does_not_see_the_stay_of_another(guest: Client) -> None:
    booking = guest.want(201, "POST", "/bookings", STAY)["id"]
    other = issue_token(JWT_SECRET, 5, "guest")
    assert booking not in [one["id"] for one in guest.want(200, "GET", "/bookings", token=other)]
    guest.want(404, "POST", f"/bookings/{booking}/check-in", token=other)
    guest.want(404, "POST", "/payments", {"bookingId": booking, "amount": 1}, token=other)
    guest.want(200, "POST", f"/bookings/{booking}/check-in", token=issue_token(JWT_SECRET, 6, "staff"))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/bookings", {**STAY, "roomId": "x"}, 400),
        ("/bookings", {**STAY, "checkOut": STAY["checkIn"]}, 400),
        ("/bookings", {**STAY, "channel": "pigeon"}, 400),
        ("/bookings", {**STAY, "roomId": 999_999}, 404),
        ("/bookings", [], 400),
        ("/payments", {"bookingId": 1, "amount": -5}, 400),
        ("/payments", {"bookingId": 2**62, "amount": 5}, 404),
        ("/bookings/x/check-in", None, 400),
        ("/auth/login", {"email": "x"}, 400),
    ],
)
def test_wrong_bodies_are_refused(guest: Client, path: str, body: Any, status: int) -> None:
    assert guest.want(status, "POST", path, body)["error"]


def test_bodies_that_are_not_json_or_too_long(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    for body, status in ((b"{", 400), (b"\xff\xfe", 400), (b"[" * 60_000, 400), (b" " * 70_000, 413)):
        connection.request("POST", "/auth/login", body)
        answer = connection.getresponse()
        assert (answer.status, bool(json.loads(answer.read())["error"])) == (status, True)
        connection.close()


def test_an_account_that_is_gone_books_nothing(guest: Client) -> None:
    guest.want(401, "POST", "/bookings", STAY, token=issue_token(JWT_SECRET, 2**40, "guest"))


def test_free_rooms(guest: Client) -> None:
    path = "/rooms/availability?checkIn=2045-01-01&checkOut=2045-01-03"
    assert guest.want(200, "GET", path)["free"] == 200
    guest.want(201, "POST", "/bookings", {"roomId": 7, "checkIn": "2045-01-02", "checkOut": "2045-01-09"})
    assert guest.want(200, "GET", path)["free"] == 199
    guest.want(400, "GET", "/rooms/availability")


def test_administration(guest: Client) -> None:
    guest.want(403, "GET", "/admin/users")
    log_in(guest, seed.ADMIN_EMAIL)
    assert guest.want(200, "GET", "/admin/users")[0]["email"] == seed.TEST_EMAIL


def test_banner(client: Client, url: str) -> None:
    message = str(uuid.uuid4())
    client.want(401, "PUT", "/admin/banner", {"enabled": True, "message": message})
    client.want(400, "PUT", "/admin/banner", {"enabled": "yes"}, token=ADMIN_TOKEN)
    client.want(200, "PUT", "/admin/banner", {"enabled": True, "message": message}, token=ADMIN_TOKEN)
    assert client.want(200, "GET", "/banner") == {"enabled": True, "message": message}
    client.want(200, "PUT", "/admin/banner", {"enabled": False}, token=ADMIN_TOKEN)
    assert client.want(200, "GET", "/banner") == {"enabled": False, "message": ""}


def test_the_admin_token_may_come_in_its_own_header(url: str) -> None:
    assert raw(url, "DELETE", "/-/drain")[0].status == 401
    assert raw(url, "DELETE", "/-/drain", **{"X-Admin-Token": "wrong"})[0].status == 401
    assert raw(url, "DELETE", "/-/drain", **{"X-Admin-Token": ADMIN_TOKEN})[0].status == 200


def metric(url: str, name: str) -> float:
    lines = raw(url, "GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.partition("{")[0].split(" ")[0] == name)


def test_metrics_count_requests_but_not_probes(url: str) -> None:
    before = metric(url, "http_requests_total"), metric(url, "http_request_duration_seconds_count")
    raw(url, "GET", "/health")
    raw(url, "GET", "/nowhere")
    raw(url, "GET", "/health", **{"User-Agent": "kube-probe/1.36"})
    raw(url, "DELETE", "/-/drain", **{"X-Admin-Token": ADMIN_TOKEN})
    after = metric(url, "http_requests_total"), metric(url, "http_request_duration_seconds_count")
    assert (after[0] - before[0], after[1] - before[1]) == (2, 2)


def test_metrics_have_what_dashboards_need(url: str, guest: Client) -> None:
    guest.want(200, "GET", "/rooms?page=5")
    guest.want(200, "GET", "/rooms?page=5")
    for name in (
        "cache_hits_total", "cache_misses_total", "database_connections", "process_cpu_seconds_total",
        "process_resident_memory_bytes", "disk_bytes_total", "network_bytes_total",
    ):  # fmt: skip
        assert metric(url, name) > 0, name


def test_passwords_are_not_stored(shared_database: str) -> None:
    with psycopg.connect(shared_database) as connection:
        hashes = connection.execute("SELECT DISTINCT password_hash FROM users").fetchall()
    assert not any(PASSWORD in row[0] for row in hashes)
