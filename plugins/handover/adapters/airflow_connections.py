"""Airflow's connections for whoever speaks asynchronously.

A task's process asks Airflow over one socket, and one event loop alone can wait for its answers: another thread's loop
would wait for ever, and the task with it. So a thread beside the task takes what the task has looked up before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_BESIDE: ContextVar[bool] = ContextVar("beside", default=False)
_KNOWN: dict[str, dict[str, Any]] = {}


class NotLookedUp(LookupError):
    """The task has not asked for this connection before."""


@contextmanager
def beside_the_task() -> Iterator[None]:
    """For what runs in a thread of its own, with an event loop of its own."""
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


async def extra_of(connection_id: str) -> dict[str, Any]:
    """A connection's extra. Raises `NotLookedUp` beside a task that has never asked for it, and what Airflow raises."""
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    if not _BESIDE.get():
        _KNOWN[connection_id] = await get_async_extra_dejson(await get_async_connection(connection_id))
    elif connection_id not in _KNOWN:
        raise NotLookedUp(f"connection {connection_id} was not looked up by the task itself")
    return _KNOWN[connection_id]
