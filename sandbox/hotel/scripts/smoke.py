"""`npm run test:smoke -- --url URL`: does a running service work? Reads only, so it is safe in production.

Logs in as SMOKE_EMAIL with SMOKE_PASSWORD. Without these it signs a token with JWT_SECRET, and then only checks that
a wrong password is refused.
"""

from __future__ import annotations

import argparse
import os
from datetime import date, timedelta

from sandbox.hotel.scripts.checks import Checks, Client, expect


def _log_in(checks: Checks, client: Client) -> None:
    email, password = os.environ.get("SMOKE_EMAIL"), os.environ.get("SMOKE_PASSWORD")
    with checks.check("a wrong password is refused"):
        body = {"email": email or "nobody@example.com", "password": "not the password"}
        client.want(401, "POST", "/auth/login", body)
    with checks.check("a user can log in"):
        if email and password:
            answer = client.want(200, "POST", "/auth/login", {"email": email, "password": password})
            client.token = answer["token"]
            return
        secret = os.environ.get("JWT_SECRET")
        expect(secret, "neither SMOKE_EMAIL and SMOKE_PASSWORD nor JWT_SECRET is set")
        from sandbox.hotel.security import issue_token

        client.token = issue_token(str(secret), 1, "guest", seconds=60)


def run(url: str) -> int:
    """All checks against one URL; 0 if every one passed."""
    checks = Checks()
    client = Client(url)
    with checks.check("the service is healthy"):
        health = client.want(200, "GET", "/health")
        expect(health["database"] == "ok", "the database is not ok")
    with checks.check("bookings need a login"):
        client.want(401, "GET", "/bookings")
    _log_in(checks, client)
    with checks.check("there are rooms"):
        rooms = client.want(200, "GET", "/rooms")
        expect(rooms and {"id", "number", "pricePerNight"} <= rooms[0].keys(), "no rooms, or other fields")
    with checks.check("rooms have a second page"):
        client.want(200, "GET", "/rooms?page=2")
    with checks.check("bookings can be listed"):
        expect(isinstance(client.want(200, "GET", "/bookings"), list), "not a list")
    with checks.check("staff can be listed"):
        expect(client.want(200, "GET", "/staff"), "no staff")
    with checks.check("free rooms can be counted"):
        begin = date.today() + timedelta(days=14)
        path = f"/rooms/availability?checkIn={begin}&checkOut={begin + timedelta(days=2)}"
        expect(client.want(200, "GET", path)["free"] >= 0, "no count")
    with checks.check("a wrong booking is refused"):
        client.want(400, "POST", "/bookings", {"roomId": "1", "checkIn": "tomorrow"})
    with checks.check("administration is closed to others"):
        client.want(403 if client.token else 401, "GET", "/admin/users")
    with checks.check("the banner can be read"):
        client.want(200, "GET", "/banner")
    with checks.check("metrics are there"):
        expect("http_requests_total" in client.want(200, "GET", "/metrics"), "no http_requests_total")
    return checks.exit_code()


def main(_: str, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="npm run test:smoke --")
    parser.add_argument("--url", default=os.environ.get("SMOKE_URL"), help="or SMOKE_URL")
    given = parser.parse_args(arguments)
    if not given.url:
        parser.error("--url or SMOKE_URL is needed")
    return run(given.url)
