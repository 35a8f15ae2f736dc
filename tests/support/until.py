"""Waits for what another thread, process or server does; no test knows how long that takes on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 120.0
"""Seconds; what takes so long is broken on any machine."""
LOOKS_EVERY = 0.01
T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "it") -> T:
    """The first answer that is true. Raises `AssertionError` when patience is over."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} does not happen"
        time.sleep(LOOKS_EVERY)
    return found


async def until_async(condition: Callable[[], Awaitable[T]], what: str = "it") -> T:
    """The same in an event loop."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await condition()):
            await asyncio.sleep(LOOKS_EVERY)
    assert found, what
    return found
