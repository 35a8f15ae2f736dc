"""A small cache in the process, for lists that hardly ever change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from prometheus_client import Counter

MAX_ENTRIES = 1000


class Cache:
    """Values kept for some seconds; of callers that want a missing one at the same time, only one loads it."""

    def __init__(self, seconds: float, hits: Counter, misses: Counter) -> None:
        self._seconds = seconds
        self._hits = hits
        self._misses = misses
        self._values: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}

    def _fresh(self, key: Hashable) -> tuple[float, Any] | None:
        kept = self._values.get(key)
        return kept if kept and kept[0] > time.monotonic() else None

    async def get(self, key: Hashable, load: Callable[[], Awaitable[Any]]) -> Any:
        """The value of a key, loaded if it is missing or old; a failed load is not kept."""
        kept = self._fresh(key)
        if kept is None:
            async with self._locks.setdefault(key, asyncio.Lock()):
                kept = self._fresh(key)
                if kept is None:
                    self._misses.inc()
                    value = await load()
                    self._make_room()
                    self._values[key] = (time.monotonic() + self._seconds, value)
                    return value
        self._hits.inc()
        return kept[1]

    def _make_room(self) -> None:
        if len(self._values) >= MAX_ENTRIES:
            self._values.clear()
            self._locks.clear()
