"""`npm run test:e2e`: the critical paths, from login to check-out, against E2E_URL or an instance of its own.

For staging. It makes accounts of its own (`e2e-...@test.invalid`) in the database of DATABASE_URL and removes them
with everything they did. Without E2E_URL it serves the release on a free port of POD_IP (loopback if that is unset).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import asyncpg

from sandbox.hotel.app import Hotel
from sandbox.hotel.scripts.checks import Checks, Client, expect
from sandbox.hotel.security import hash_password
from sandbox.hotel.server import Server
from sandbox.hotel.settings import Settings

START_SECONDS = 10.0

_CLEAN = """
DELETE FROM magic_links WHERE user_id = ANY($1::bigint[]);
DELETE FROM payments WHERE booking_id IN (SELECT booking_id FROM bookings WHERE user_id = ANY($1::bigint[]));
DELETE FROM bookings WHERE user_id = ANY($1::bigint[]);
DELETE FROM users WHERE user_id = ANY($1::bigint[])
"""


class Account:
    """A temporary account and its password."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.email = f"e2e-{role}-{secrets.token_hex(6)}@test.invalid"
        self.password = secrets.token_urlsafe(12)
        self.user_id = 0


async def _create(dsn: str, accounts: list[Account]) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        for account in accounts:
            account.user_id = await connection.fetchval(
                "INSERT INTO users (email, full_name, role, password_hash) VALUES ($1, 'End-to-end test', $2, $3) "
                "RETURNING user_id",
                account.email, account.role, hash_password(account.password),
            )  # fmt: skip
    finally:
        await connection.close()


async def _remove(dsn: str, accounts: list[Account]) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        async with connection.transaction():
            for statement in _CLEAN.split(";"):
                await connection.execute(statement, [account.user_id for account in accounts])
    finally:
        await connection.close()


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The release served by a thread of this process; gives its URL."""
    server = Server(Hotel(settings), settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the service does not start")
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{settings.host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def _log_in(client: Client, account: Account) -> None:
    answer = client.want(200, "POST", "/auth/login", {"email": account.email, "password": account.password})
    client.token = answer["token"]


def _check_auth(checks: Checks, client: Client, guest: Account) -> None:
    with checks.check("log in"):
        _log_in(client, guest)
        client.want(200, "GET", "/bookings")
    with checks.check("ask for a magic link"):
        client.want(202, "POST", "/auth/magic-link", {"email": guest.email})
    with checks.check("log out"):
        client.want(204, "POST", "/auth/logout")
        client.want(401, "GET", "/bookings")
    with checks.check("log in again"):
        _log_in(client, guest)


def _check_stay(checks: Checks, client: Client) -> None:
    """A booking from its creation to the check-out; later steps fail by themselves when an earlier one did."""
    state: dict[str, Any] = {}
    begin = date.today() + timedelta(days=200)
    with checks.check("book a room"):
        room = client.want(200, "GET", "/rooms")[0]["id"]
        body = {"roomId": str(room), "checkIn": str(begin), "checkOut": str(begin + timedelta(days=2))}
        state["id"] = client.want(201, "POST", "/bookings", body)["id"]
    with checks.check("find the booking"):
        found = client.want(200, "GET", "/bookings")
        expect([one["id"] for one in found] == [state["id"]], "the list does not hold exactly this booking")
    with checks.check("pay"):
        answer = client.want(201, "POST", "/payments", {"bookingId": state["id"], "amount": 100})
        expect(answer["status"] == "captured", "the payment is not captured")
    with checks.check("check in"):
        client.want(200, "POST", f"/bookings/{state['id']}/check-in")
        client.want(409, "POST", f"/bookings/{state['id']}/check-in")
    with checks.check("check out"):
        client.want(200, "POST", f"/bookings/{state['id']}/check-out")


def _check_staff(checks: Checks, client: Client, staff: Account, admin: Account) -> None:
    with checks.check("guests see no administration"):
        client.want(403, "GET", "/admin/users")
    with checks.check("staff see everybody's bookings"):
        _log_in(client, staff)
        client.want(200, "GET", "/staff")
        expect(client.want(200, "GET", "/bookings"), "no bookings")
    with checks.check("administrators see users"):
        _log_in(client, admin)
        expect(client.want(200, "GET", "/admin/users"), "no users")
    with checks.check("the banner needs the admin token"):
        client.want(401, "PUT", "/admin/banner", {"enabled": False}, token="not the token")
        client.want(200, "GET", "/banner")


def main(_: str, __: list[str]) -> int:
    settings = Settings.from_env(os.environ)
    guest, staff, admin = accounts = [Account(role) for role in ("guest", "staff", "admin")]
    checks = Checks()
    with contextlib.ExitStack() as stack:
        with checks.check("the service and its database are there"):
            url = os.environ.get("E2E_URL") or stack.enter_context(serving(replace(settings, port=0)))
            asyncio.run(_create(settings.database_url, accounts))
            stack.callback(lambda: asyncio.run(_remove(settings.database_url, accounts)))
        if not checks.failed:
            client = Client(url)
            _check_auth(checks, client, guest)
            _check_stay(checks, client)
            _check_staff(checks, client, staff, admin)
    return checks.exit_code()
