"""The releases of the service: what each one is, and which migrations it has below its work folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIGRATIONS = Path(__file__).parent / "prisma" / "migrations"
"""Every migration of every release; a release's image has only its own."""

BASE = ("20260901090000_init", "20260915090000_payments", "20260920090000_booking_reference")
CHANNEL = "20261103100000_booking_channel"
FAILING = "20261110100000_one_guest_per_room_night"
CORRUPTING = "20261117100000_forget_inactive_guests"
NIGHTS = "20261124100000_booking_nights"


@dataclass(frozen=True)
class Release:
    """A version of the service."""

    tag: str
    what: str
    fault: str = "none"
    """PMS_FAULT: how its code is bad."""
    migrations: tuple[str, ...] = (*BASE, CHANNEL)
    """Folder names in the order in which they apply; later releases contain those of v1.1.0, as real history does."""
    vulnerabilities: tuple[str, ...] = ()
    """What a scanner finds in its image, as ``SEVERITY:ID``."""


RELEASES = (
    Release("v1.0.0", "running at the start", migrations=BASE),
    Release("v1.1.0", "good, with an additive migration"),
    Release("v1.1.1", "good, and nothing but its number is new"),
    Release("v1.1.2", "good, and nothing but its number is new"),
    Release("v1.2.0", "answers 500 after the switch", fault="errors"),
    Release("v1.3.0", "slow after the switch", fault="slow"),
    Release("v1.4.0", "does not start", fault="start"),
    Release("v1.5.0", "fails its smoke test", fault="smoke"),
    Release("v1.6.0", "its migration fails", migrations=(*BASE, CHANNEL, FAILING)),
    Release("v1.7.0", "its migration corrupts data", migrations=(*BASE, CHANNEL, CORRUPTING)),
    Release("v1.8.0", "has known vulnerabilities", vulnerabilities=("CRITICAL:CVE-2026-0001", "LOW:CVE-2026-0002")),
    Release("v1.9.0", "good, with a column that is filled in the background", migrations=(*BASE, CHANNEL, NIGHTS)),
)


def release(tag: str) -> Release:
    """The release with this tag; KeyError if there is none."""
    for one in RELEASES:
        if one.tag == tag:
            return one
    raise KeyError(tag)
