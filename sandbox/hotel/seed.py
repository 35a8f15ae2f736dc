"""Fills an empty database with a hotel: `python -m sandbox.hotel.seed --dsn DSN`.

A deployment wants a backup above 100 MB, compressed. What compresses least is random, so most of the bulk is scans of
documents: random text in an alphabet of 92 characters. The same bytes as `bytea` would be dumped as hex, which costs
gzip twice the time (measured for 105 MB of compressed output at level 6: hex 5.2 s, base64 3.5 s, this text 2.5 s).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from sandbox.hotel import migrations
from sandbox.hotel.releases import BASE
from sandbox.hotel.security import NO_PASSWORD, hash_password
from sandbox.hotel.settings import plain_dsn

TEST_EMAIL = "test@example.com"
ADMIN_EMAIL = "admin@example.com"
ROOMS = 200
BOOKINGS = 200_000
DOCUMENT_BYTES = 128 * 1024
DOCUMENTS = 1000
"""131 MB of text: 108 MB after gzip."""

_PRINTABLE = (bytes(range(0x23, 0x5C)) + bytes(range(0x5D, 0x7F)) + b"!") * 3
_TO_TEXT = _PRINTABLE[:256]
"""Maps any byte to a printable one; without the backslash, which COPY would have to escape."""


@dataclass(frozen=True)
class Seeded:
    """What was put in, and how long that took."""

    users: int
    rooms: int
    staff: int
    bookings: int
    payments: int
    documents: int
    seconds: float


def scan() -> str:
    """A document that does not compress."""
    return os.urandom(DOCUMENT_BYTES).translate(_TO_TEXT).decode("ascii")


_PEOPLE = """
INSERT INTO users (email, full_name, role, password_hash, created_at) VALUES
    (%(test_email)s, 'Test Guest', 'guest', %(test_hash)s, now() - interval '2 years'),
    (%(admin_email)s, 'Admin', 'admin', %(admin_hash)s, now() - interval '2 years');
INSERT INTO users (email, full_name, role, password_hash, created_at)
SELECT 'guest' || n || '@guests.example.com', 'Guest ' || n, CASE WHEN n %% 500 = 0 THEN 'staff' ELSE 'guest' END,
       %(nobody)s, now() - n * interval '30 minutes'
FROM generate_series(3, %(users)s) AS n;
INSERT INTO rooms (number, floor, room_type, price_per_night)
SELECT (n / 20 + 1) || lpad((n %% 20 + 1)::text, 2, '0'), n / 20 + 1,
       (ARRAY['single', 'double', 'double', 'suite'])[n %% 4 + 1], 80 + (n %% 4) * 45
FROM generate_series(0, %(rooms)s - 1) AS n;
INSERT INTO staff (full_name, position, shift)
SELECT 'Staff ' || n, (ARRAY['reception', 'housekeeping', 'kitchen', 'manager'])[n %% 4 + 1],
       (ARRAY['early', 'late', 'night'])[n %% 3 + 1]
FROM generate_series(1, 40) AS n;
INSERT INTO feature_flags (name, enabled, message) VALUES
    ('banner', false, ''), ('online_payment', true, ''), ('magic_link', true, '')
"""

# Stays are spread over three years by a fixed rule, so that two databases of one size hold the same. The last two
# share a room and a day: real data has such rows, and the migration of v1.6.0 stumbles over them.
_STAYS = """
INSERT INTO bookings (user_id, room_id, check_in, check_out, status, total_amount, created_at)
SELECT 3 + n * 7919 %% (%(users)s - 2), room_id, day, day + nights,
       CASE WHEN n %% 23 = 0 THEN 'cancelled' WHEN day + nights < current_date THEN 'checked_out' ELSE 'confirmed' END,
       nights * price_per_night, now() - (%(bookings)s - n) * interval '2 minutes'
FROM generate_series(1::bigint, %(bookings)s) AS n
CROSS JOIN LATERAL (SELECT current_date - 730 + (n * 104729 %% 1095)::int AS day, (1 + n %% 5)::int AS nights) AS stay
JOIN rooms ON room_id = 1 + CASE WHEN n >= %(bookings)s - 1 THEN 0 ELSE n * 31 %% %(rooms)s END;
UPDATE bookings SET check_in = current_date + 30, check_out = current_date + 32, status = 'confirmed'
WHERE booking_id > (SELECT max(booking_id) - 2 FROM bookings);
INSERT INTO payments (booking_id, amount, created_at)
SELECT booking_id, total_amount, created_at FROM bookings WHERE status = 'checked_out' AND booking_id %% 2 = 0
"""


def _fill(connection: psycopg.Connection[Any], values: dict[str, Any]) -> None:
    """Run several statements with the same values (the server binds none in a multi-statement query)."""
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(_PEOPLE, values)
    cursor.execute(_STAYS, values)


def _copy_documents(connection: psycopg.Connection[Any], documents: int, users: int) -> None:
    with connection.cursor().copy("COPY documents (user_id, scan) FROM STDIN") as copy:
        for number in range(documents):
            copy.write(f"{3 + number % (users - 2)}\t{scan()}\n")


def seed(
    dsn: str,
    *,
    bookings: int = BOOKINGS,
    documents: int = DOCUMENTS,
    test_password: str | None = None,
    admin_password: str | None = None,
) -> Seeded:
    """Create the schema of v1.0.0 and fill it, in one transaction; refuses a database that has users already.

    Without a password an account exists but nobody can log in.
    """
    begin = time.monotonic()
    users = max(20, bookings // 10)
    values = {
        "test_email": TEST_EMAIL,
        "test_hash": hash_password(test_password) if test_password else NO_PASSWORD,
        "admin_email": ADMIN_EMAIL,
        "admin_hash": hash_password(admin_password) if admin_password else NO_PASSWORD,
        "nobody": NO_PASSWORD, "users": users, "rooms": ROOMS, "bookings": bookings,
    }  # fmt: skip
    with psycopg.connect(plain_dsn(dsn), autocommit=True) as connection:
        migrations.apply(connection, BASE)
        if connection.execute("SELECT FROM users LIMIT 1").fetchone():
            raise SystemExit("the database has users already: seed an empty one")
        with connection.transaction():
            _fill(connection, values)
            _copy_documents(connection, documents, users)
        connection.execute("ANALYZE")
        counts = {
            table: _count(connection, table)
            for table in ("users", "rooms", "staff", "bookings", "payments", "documents")
        }
    return Seeded(**counts, seconds=round(time.monotonic() - begin, 2))


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


def small(dsn: str, *, test_password: str | None = None, admin_password: str | None = None) -> Seeded:
    """A hotel with little data, for tests: a fraction of a second, a backup of some 300 kB."""
    return seed(dsn, bookings=500, documents=2, test_password=test_password, admin_password=admin_password)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.hotel.seed", description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--rows", type=int, default=BOOKINGS, help="bookings (a tenth as many users)")
    parser.add_argument("--small", action="store_true", help="little data, for tests")
    parser.add_argument("--test-password", default=os.environ.get("PMS_TEST_PASSWORD"), help="or PMS_TEST_PASSWORD")
    parser.add_argument("--admin-password", default=os.environ.get("PMS_ADMIN_PASSWORD"), help="or PMS_ADMIN_PASSWORD")
    given = parser.parse_args()
    fill = small if given.small else partial(seed, bookings=given.rows)
    print(asdict(fill(given.dsn, test_password=given.test_password, admin_password=given.admin_password)))


if __name__ == "__main__":
    main()
