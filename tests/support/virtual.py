"""Time that tests turn: every event loop goes on where the last one ended; nobody waits for the clock on the wall."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

import looptime
import pytest

from handover import clock
from tests.support.summary import VIRTUAL

T = TypeVar("T")
Background = Callable[[], Coroutine[Any, Any, None]]
RESOLUTION = 1e-9
"""As asyncio has it: a timer that is nearer than this is due. A coarser one never gets there."""
BEGIN = 1_800_000_000.0
"""Seconds since the epoch at virtual second 0."""


class VirtualTime:
    """``now``: seconds that have passed. What is in the background runs beside whatever is run."""

    def __init__(self) -> None:
        self.now = 0.0
        self._background: list[Background] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As `asyncio.run`."""
        with asyncio.Runner(loop_factory=self._loop) as runner:
            try:
                return runner.run(self._beside(work))
            finally:
                self.now = runner.get_loop().time()

    def pass_by(self, seconds: float) -> None:
        """Lets time pass in which only the background does anything."""
        self.run(asyncio.sleep(seconds))

    @contextmanager
    def beside(self, background: Background) -> Iterator[None]:
        self._background.append(background)
        try:
            yield
        finally:
            self._background.remove(background)

    def epoch(self) -> float:
        with contextlib.suppress(RuntimeError):
            return BEGIN + asyncio.get_running_loop().time()
        return BEGIN + self.now

    def _loop(self) -> asyncio.AbstractEventLoop:
        return looptime.new_event_loop(start=self.now, resolution=RESOLUTION, noop_cycles=1)

    async def _beside(self, work: Coroutine[Any, Any, T]) -> T:
        tasks = [asyncio.create_task(one()) for one in self._background]
        try:
            return await work
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def virtual_time(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> Iterator[VirtualTime]:
    """Everything that this test runs is in virtual time."""
    turned, began = VirtualTime(), perf_counter()
    monkeypatch.setattr(asyncio, "run", turned.run)
    monkeypatch.setattr(clock, "epoch", turned.epoch)
    yield turned
    record_property(VIRTUAL, (turned.now, perf_counter() - began))
