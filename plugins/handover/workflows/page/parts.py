"""One part of the outside as the page knows it: asked once for everybody, and remembered when it does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from handover import clock
from handover.models.redaction import redacted
from handover.workflows.page.views import Heard

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE_SECONDS = 2.0
"""Nobody waits longer for one part: what it said last is shown, and since when it is silent."""
SHARED_SECONDS = 1.0
MAX_REASON = 300


class Shared:
    """What several people ask at the same time is asked once."""

    def __init__(self) -> None:
        self._asked: dict[tuple[object, ...], tuple[float, asyncio.Task[Any]]] = {}

    async def once(self, key: tuple[object, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to the same question that is under way, or was given within `SHARED_SECONDS`. Raises what ``ask``
        does.
        """
        now = clock.monotonic()
        kept = self._asked.items()
        self._asked = {k: (at, one) for k, (at, one) in kept if not one.done() or now - at < SHARED_SECONDS}
        if key not in self._asked:
            self._asked[key] = now, asyncio.ensure_future(ask())
        answer: T = await asyncio.shield(self._asked[key][1])
        return answer


class Part(Generic[T]):
    """``value``: what it said last, None before; ``at``: when that was, seconds since the epoch."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[T]], every: float) -> None:
        """:param every: seconds; who asks sooner gets what is known"""
        self.name, self._ask, self._every = name, ask, every
        self.value: T | None = None
        self.at: float | None = None
        self._reason = "it was not asked yet"
        self._asking: asyncio.Task[None] | None = None
        self._asked_at: float | None = None

    async def fresh(self) -> None:
        """Asks unless somebody does already, or did just now. Never raises, and takes `PATIENCE_SECONDS` at most."""
        due = self._asked_at is None or clock.monotonic() - self._asked_at >= self._every
        if self._asking is None and due:
            self._asked_at = clock.monotonic()
            self._asking = asyncio.create_task(self._answer())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=PATIENCE_SECONDS)

    @property
    def heard(self) -> Heard:
        late = self._asking is not None and clock.monotonic() - (self._asked_at or 0.0) >= PATIENCE_SECONDS
        reason = self._reason or (f"{self.name} has not answered yet" if late else "")
        return Heard(answers=not reason, at=self.at, reason=reason)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _answer(self) -> None:
        try:
            self.value = await self._ask()
            self.at, self._reason = clock.epoch(), ""
        except Exception as error:  # whatever a client raises: the page shows that, and goes on
            said = str(error).partition("\n")[0] or type(error).__name__
            if self._reason != (reason := f"{self.name} did not answer: {redacted(said)[:MAX_REASON]}"):
                log.warning("%s", reason)
            self._reason = reason
        finally:
            self._asking = None
