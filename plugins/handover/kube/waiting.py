"""The one way to wait for something in a cluster: in a task, or in a trigger that holds no worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from handover import clock
from handover.ports.kube import KubeError

POLL_SECONDS = 0.5
T = TypeVar("T")


class Overdue(Exception):
    """It was not seen in time. The text is what kept us from looking at last; empty when nothing did."""


async def until(look: Callable[[], Awaitable[T | None]], deadline: float) -> T:
    """What ``look`` gives; it is asked every half second while it gives None or the API server is away.

    Raises `Overdue`, and a `KubeError` that does not pass by itself.

    :param deadline: seconds since the epoch, so that whoever goes on with a wait does not begin it anew
    """
    while True:
        away = ""
        try:
            found = await look()
        except KubeError as error:
            if not error.passing:
                raise
            found, away = None, str(error)
        if found is not None:
            return found
        if clock.epoch() >= deadline:
            raise Overdue(away)
        await asyncio.sleep(POLL_SECONDS)
