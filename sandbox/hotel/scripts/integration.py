"""`npm run test:integration`: queries and constraints, on the database of DATABASE_URL. Leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg

from sandbox.hotel import schema
from sandbox.hotel.scripts.checks import Checks, expect
from sandbox.hotel.settings import plain_dsn
from sandbox.hotel.store import PAGE, Store

_BOOKING = "INSERT INTO bookings (user_id, room_id, check_in, check_out, total_amount) VALUES ($1, $2, $3, $4, 100)"


@contextlib.asynccontextmanager
async def _undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that is always rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def _refused(connection: asyncpg.Connection, error: type[Exception], query: str, *args: object) -> None:
    async with _undone(connection):
        try:
            await connection.execute(query, *args)
        except error:
            return
        raise AssertionError(f"{error.__name__} was expected")


async def _check_constraints(checks: Checks, connection: asyncpg.Connection) -> None:
    user, email = await connection.fetchrow("SELECT user_id, email FROM users ORDER BY user_id LIMIT 1")
    room = await connection.fetchval("SELECT min(room_id) FROM rooms")
    today = date.today()
    later = today + timedelta(days=1)
    with checks.check("a booking can be written"):
        async with _undone(connection):
            await connection.execute(_BOOKING, user, room, today, later)
    with checks.check("a booking needs a user"):
        await _refused(connection, asyncpg.ForeignKeyViolationError, _BOOKING, -1, room, today, later)
    with checks.check("a booking needs a room"):
        await _refused(connection, asyncpg.ForeignKeyViolationError, _BOOKING, user, -1, today, later)
    with checks.check("a stay ends after it begins"):
        await _refused(connection, asyncpg.CheckViolationError, _BOOKING, user, room, today, today)
    with checks.check("an e-mail belongs to one user"):
        query = "INSERT INTO users (email, full_name, password_hash) VALUES ($1, 'Twin', '!')"
        await _refused(connection, asyncpg.UniqueViolationError, query, email)


async def _check_queries(checks: Checks, store: Store) -> None:
    with checks.check("lists have pages"):
        expect(len(await store.rooms(1)) == PAGE and await store.staff(1), "rooms or staff are missing")
        expect(await store.users(1), "users are missing")
    with checks.check("bookings are listed, newest first"):
        found = [row["booking_id"] for row in await store.bookings(None, 1)]
        expect(found and found == sorted(found, reverse=True), "no bookings, or in another order")
    with checks.check("free rooms are counted"):
        far = date.today() + timedelta(days=3650)
        expect(await store.free_rooms(far, far + timedelta(days=1)) > 0, "no room is free in ten years")
    with checks.check("the banner is read"):
        await store.banner()


async def _run(dsn: str, version: str) -> int:
    checks = Checks()
    store = Store(dsn, version)
    with checks.check("the database answers"):
        connection = await asyncpg.connect(dsn, timeout=5, command_timeout=10)
        await store.open()
    if checks.failed:
        return checks.exit_code()
    try:
        with checks.check("the schema has what the code needs"):
            rows = await connection.fetch(schema.COLUMNS_SQL)
            lacking = schema.missing((row["name"] for row in rows), version, migrated=False)
            expect(not lacking, "missing: " + ", ".join(lacking))
            await store.detect()
        await _check_constraints(checks, connection)
        await _check_queries(checks, store)
    finally:
        await connection.close()
        await store.close()
    return checks.exit_code()


def main(_: str, __: list[str]) -> int:
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        print("DATABASE_URL is not set")
        return 1
    return asyncio.run(_run(plain_dsn(dsn), os.environ.get("PMS_VERSION", "v0.0.0")))
