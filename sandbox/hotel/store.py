"""The service's queries.

The same code meets the schema before and after a migration, and both during it: columns are looked up every few
seconds, and at once when a query hits one that has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from sandbox.hotel import schema
from sandbox.hotel.security import Identity
from sandbox.hotel.validation import NewBooking

PAGE = 20
QUERY_SECONDS = 10.0
POOL_SIZE = 6
"""Connections a pod opens at most: 5 pods stay far below PostgreSQL's default of 100."""

_NOTHING_DONE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
"""A statement ended without effect because of somebody else's, mostly a migration's: it may be repeated."""
UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    OSError,
    TimeoutError,
)
"""What a query raises when the database cannot be used now, whatever the query."""

Row = Mapping[str, Any]


class Store:
    """A pool of connections, opened on demand: the service starts, and says so in /health, without a database."""

    def __init__(self, dsn: str, version: str) -> None:
        self._dsn = dsn
        self._optional = schema.optional(version)
        self._pool: asyncpg.Pool | None = None
        self.columns: frozenset[str] = frozenset()
        """Optional columns that exist now."""

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=POOL_SIZE, command_timeout=QUERY_SECONDS, timeout=5,
            server_settings={"application_name": "pms"},
        )  # fmt: skip

    async def close(self) -> None:
        """Close idle connections; those still in a query are cut after a second."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 1)
        except TimeoutError:
            self._pool.terminate()

    def connections(self) -> int:
        """Open connections."""
        return self._pool.get_size() if self._pool else 0

    async def _fetch(self, query: str, *args: Any) -> list[Row]:
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is not open")
        async with self._pool.acquire(timeout=QUERY_SECONDS) as connection:
            rows: list[Row] = await connection.fetch(query, *args)
            return rows

    async def read(self, query: str, *args: Any) -> list[Row]:
        """Rows of a query that changes nothing: repeated once, also when its connection turns out to be dead."""
        try:
            return await self._fetch(query, *args)
        except (*_NOTHING_DONE, asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError):
            return await self._fetch(query, *args)

    async def _adapted(self, build: Callable[[], tuple[Any, ...]]) -> list[Row]:
        """Run the query that `build` makes for the columns that exist; again if a column came or went meanwhile."""
        try:
            return await self._fetch(*build())
        except _NOTHING_DONE:
            await self.detect()
            return await self._fetch(*build())

    async def detect(self) -> None:
        """Look up which optional columns exist."""
        if self._optional:
            rows = await self._fetch(schema.COLUMNS_SQL)
            self.columns = frozenset(row["name"] for row in rows) & self._optional

    # --- people

    async def ping(self) -> None:
        await asyncio.wait_for(self._fetch("SELECT 1"), 3)

    async def user_by_email(self, email: str) -> Row | None:
        rows = await self.read("SELECT user_id, role, password_hash FROM users WHERE email = $1", email)
        return rows[0] if rows else None

    async def users(self, page: int) -> list[Row]:
        return await self.read(
            "SELECT user_id, email, full_name, role, created_at FROM users ORDER BY user_id LIMIT $1 OFFSET $2",
            PAGE, (page - 1) * PAGE,
        )  # fmt: skip

    async def staff(self, page: int) -> list[Row]:
        return await self.read(
            "SELECT staff_id, full_name, position, shift FROM staff ORDER BY staff_id LIMIT $1 OFFSET $2",
            PAGE, (page - 1) * PAGE,
        )  # fmt: skip

    async def add_magic_link(self, email: str, token_hash: str) -> None:
        """Remember a link for an account that exists; nothing happens for others, so that nobody can probe."""
        await self._fetch(
            "INSERT INTO magic_links (token_hash, user_id, expires_at) "
            "SELECT $1, user_id, now() + interval '15 minutes' FROM users WHERE email = $2",
            token_hash, email,
        )  # fmt: skip

    async def revoke(self, token: Identity) -> None:
        await self._fetch(
            "INSERT INTO revoked_tokens (token_id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            token.token_id, datetime.fromtimestamp(token.expires_at, UTC),
        )  # fmt: skip

    async def revoked(self) -> frozenset[str]:
        rows = await self.read("SELECT token_id FROM revoked_tokens WHERE expires_at > now()")
        return frozenset(row["token_id"] for row in rows)

    # --- rooms and bookings

    async def rooms(self, page: int) -> list[Row]:
        return await self.read(
            "SELECT room_id, number, floor, room_type, price_per_night FROM rooms ORDER BY room_id LIMIT $1 OFFSET $2",
            PAGE, (page - 1) * PAGE,
        )  # fmt: skip

    async def free_rooms(self, check_in: Any, check_out: Any) -> int:
        """How many rooms nobody has booked for any night of a stay."""
        rows = await self.read(
            "SELECT count(*) AS free FROM rooms WHERE NOT EXISTS (SELECT FROM bookings WHERE room_id = rooms.room_id "
            "AND check_in < $2::date AND check_out > $1::date AND check_in > $1::date - 400 AND status <> 'cancelled')",
            check_in, check_out,
        )  # fmt: skip
        return int(rows[0]["free"])

    async def bookings(self, user_id: int | None, page: int) -> list[Row]:
        """The newest bookings first, of one user or of all."""

        def build() -> tuple[Any, ...]:
            channel = ", channel" if "bookings.channel" in self.columns else ""
            where = "WHERE user_id = $3" if user_id is not None else ""
            query = (  # the columns are constants of this module
                f"SELECT booking_id, user_id, room_id, check_in, check_out, status, total_amount{channel} "  # noqa: S608
                f"FROM bookings {where} ORDER BY booking_id DESC LIMIT $1 OFFSET $2"
            )
            return query, PAGE, (page - 1) * PAGE, *(() if user_id is None else (user_id,))

        return await self._adapted(build)

    async def add_booking(self, user_id: int, stay: NewBooking) -> Row | None:
        """Book a room at its price per night; None if there is no such room.

        Two stays may overlap: who gets the room is the front desk's business.
        """

        def build() -> tuple[Any, ...]:
            wanted = {"channel": stay.channel, "special_requests": stay.special_requests}
            extra = {name: value for name, value in wanted.items() if f"bookings.{name}" in self.columns}
            columns = "".join(f", {name}" for name in extra)
            values = "".join(f", ${number}" for number in range(6, 6 + len(extra)))
            query = (
                f"INSERT INTO bookings (user_id, room_id, check_in, check_out, total_amount{columns}) "  # noqa: S608
                f"SELECT $1::bigint, room_id, $3::date, $4::date, price_per_night * $5::int{values} "
                "FROM rooms WHERE room_id = $2 RETURNING booking_id, status, total_amount"
            )
            return query, user_id, stay.room_id, stay.check_in, stay.check_out, stay.nights, *extra.values()

        rows = await self._adapted(build)
        return rows[0] if rows else None

    async def booking_owner(self, booking_id: int) -> int | None:
        rows = await self.read("SELECT user_id FROM bookings WHERE booking_id = $1", booking_id)
        return rows[0]["user_id"] if rows else None

    async def add_payment(self, booking_id: int, amount: float) -> Row:
        rows = await self._fetch(
            "INSERT INTO payments (booking_id, amount) VALUES ($1, $2::float8::numeric(10, 2)) "
            "RETURNING payment_id, status",
            booking_id, amount,
        )  # fmt: skip
        return rows[0]

    async def move_booking(self, booking_id: int, before: str, after: str) -> bool:
        """Move a booking from one status to the next; False if it was not in the first."""
        return bool(
            await self._fetch(
                "UPDATE bookings SET status = $3 WHERE booking_id = $1 AND status = $2 RETURNING booking_id",
                booking_id,
                before,
                after,
            )
        )

    # --- banner

    async def banner(self) -> tuple[bool, str]:
        rows = await self.read("SELECT enabled, message FROM feature_flags WHERE name = 'banner'")
        return (rows[0]["enabled"], rows[0]["message"]) if rows else (False, "")

    async def set_banner(self, enabled: bool, message: str) -> None:
        await self._fetch(
            "INSERT INTO feature_flags (name, enabled, message) VALUES ('banner', $1, $2) "
            "ON CONFLICT (name) DO UPDATE SET enabled = $1, message = $2, updated_at = now()",
            enabled, message,
        )  # fmt: skip
