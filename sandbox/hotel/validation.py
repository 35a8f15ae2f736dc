"""What a request may hold. Every function takes decoded JSON and raises Invalid with a message for the client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

MAX_ID = 2**63 - 1
MAX_AMOUNT = 99_999_999.99
"""What numeric(10, 2) holds."""
MAX_NIGHTS = 365
CHANNELS = ("direct", "web", "partner")


class Invalid(ValueError):
    """The body is not what the call takes; the text says what is wrong with which field."""


@dataclass(frozen=True)
class NewBooking:
    """A stay somebody asks for."""

    room_id: int
    check_in: date
    check_out: date
    channel: str = "direct"
    special_requests: str | None = None

    @property
    def nights(self) -> int:
        return (self.check_out - self.check_in).days


def fields(body: Any) -> dict[str, Any]:
    """The body as an object."""
    if not isinstance(body, dict):
        raise Invalid("body: expected a JSON object")
    return body


def text(body: Any, name: str, most: int = 255) -> str:
    """A string that is not empty, at most `most` characters, without NUL (PostgreSQL stores none)."""
    value = fields(body).get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > most or "\0" in value:
        raise Invalid(f"{name}: expected text of 1 to {most} characters")
    return value


def email(body: Any) -> str:
    """An e-mail address in lower case."""
    value = text(body, "email").strip().lower()
    local, _, domain = value.partition("@")
    if not local or "." not in domain or " " in value:
        raise Invalid("email: expected an e-mail address")
    return value


def identifier(value: Any, name: str) -> int:
    """A key as a number or as digits (clients that got it from a path or a form send text)."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ID:
        raise Invalid(f"{name}: expected a positive whole number")
    return value


def day(value: Any, name: str) -> date:
    """A calendar day, YYYY-MM-DD."""
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise Invalid(f"{name}: expected a date YYYY-MM-DD")


def stay(check_in: Any, check_out: Any) -> tuple[date, date]:
    """Two days in order, at most a year apart."""
    first, last = day(check_in, "checkIn"), day(check_out, "checkOut")
    if not 0 < (last - first).days <= MAX_NIGHTS:
        raise Invalid(f"checkOut: expected 1 to {MAX_NIGHTS} nights after checkIn")
    return first, last


def amount(body: Any) -> float:
    """Money above zero, rounded to cents."""
    value = fields(body).get("amount")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Invalid("amount: expected a number")
    value = round(float(value), 2)
    if not 0 < value <= MAX_AMOUNT:
        raise Invalid("amount: expected more than 0 and less than 100 million")
    return value


def new_booking(body: Any) -> NewBooking:
    """The body of POST /bookings."""
    given = fields(body)
    first, last = stay(given.get("checkIn"), given.get("checkOut"))
    channel = given.get("channel", "direct")
    if channel not in CHANNELS:
        raise Invalid(f"channel: expected one of {', '.join(CHANNELS)}")
    requests = text(given, "specialRequests", 2000) if given.get("specialRequests") is not None else None
    return NewBooking(identifier(given.get("roomId"), "roomId"), first, last, channel, requests)


def new_banner(body: Any) -> tuple[bool, str]:
    """The body of PUT /admin/banner; the message may be left out when the banner is switched off."""
    enabled = fields(body).get("enabled")
    if not isinstance(enabled, bool):
        raise Invalid("enabled: expected true or false")
    return enabled, text(body, "message", 500) if enabled or body.get("message") else ""


def page_number(value: str | None) -> int:
    """The page of a list, 1 when it is left out; far pages are refused because skipping rows is slow."""
    if value is None:
        return 1
    if not (value.isascii() and value.isdecimal() and len(value) < 6 and 0 < int(value) <= 1000):
        raise Invalid("page: expected 1 to 1000")
    return int(value)
