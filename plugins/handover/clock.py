"""The time of everything that waits or judges: the event loop's, so that whoever turns the loop's time turns ours."""

from __future__ import annotations

import asyncio
import datetime
import time

_LOADED_AT = time.time()
_REAL_LOOPS_DIFFER_BY = 1.0
"""An event loop whose time is the machine's has that of `time.monotonic`."""


def monotonic() -> float:
    """Seconds of the running loop, where none runs of the machine; only differences mean anything."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def epoch() -> float:
    """Seconds since the epoch, for deadlines and facts that outlive this process: the machine's clock, but in a loop
    whose time is turned it turns along.
    """
    try:
        turned = asyncio.get_running_loop().time()
    except RuntimeError:
        return time.time()
    return time.time() if abs(turned - time.monotonic()) < _REAL_LOOPS_DIFFER_BY else _LOADED_AT + turned


def utc() -> datetime.datetime:
    """The same as a time of day, for windows, calendars and what people read."""
    return datetime.datetime.fromtimestamp(epoch(), datetime.UTC)


def told(at: float) -> str:
    """A moment of these days as people are told it. ``at``: seconds since the epoch."""
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%H:%M:%S} UTC"
