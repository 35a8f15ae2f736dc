"""Which tables and columns the code needs, and which it uses once they are there."""

from __future__ import annotations

import re
from collections.abc import Iterable

REQUIRED: dict[str, tuple[str, ...]] = {
    "users": ("user_id", "email", "full_name", "role", "password_hash", "created_at"),
    "rooms": ("room_id", "number", "floor", "room_type", "price_per_night", "created_at"),
    "staff": ("staff_id", "full_name", "position", "shift", "created_at"),
    "bookings": (
        "booking_id", "user_id", "room_id", "check_in", "check_out", "status", "total_amount", "created_at",
    ),
    "payments": ("payment_id", "booking_id", "amount", "status", "created_at"),
    "documents": ("document_id", "user_id", "scan", "created_at"),
    "magic_links": ("token_hash", "user_id", "expires_at"),
    "revoked_tokens": ("token_id", "expires_at"),
    "feature_flags": ("name", "enabled", "message", "updated_at"),
}  # fmt: skip
"""What every release needs."""

SINCE_1_1: dict[str, tuple[str, ...]] = {"bookings": ("channel", "special_requests")}
"""What v1.1.0 and later use where it exists. They must also run without, since traffic moves before the migration."""

COLUMNS_SQL = """
SELECT table_name || '.' || column_name AS name FROM information_schema.columns WHERE table_schema = 'public'
"""


def names(tables: dict[str, tuple[str, ...]]) -> frozenset[str]:
    """`table.column` for each column."""
    return frozenset(f"{table}.{column}" for table, columns in tables.items() for column in columns)


def version_key(version: str) -> tuple[int, ...]:
    """`v1.10.0` as (1, 10, 0), so that versions compare as numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def optional(version: str) -> frozenset[str]:
    """Columns this version uses when they exist."""
    return names(SINCE_1_1) if version_key(version) >= (1, 1, 0) else frozenset()


def missing(existing: Iterable[str], version: str, *, migrated: bool) -> list[str]:
    """Columns the code lacks; with `migrated`, those of its own migrations count as needed too."""
    needed = names(REQUIRED) | (optional(version) if migrated else frozenset())
    return sorted(needed - frozenset(existing))
