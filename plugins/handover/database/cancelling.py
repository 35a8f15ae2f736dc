"""Cancels what a session runs at the moment, from another thread, and never what it runs next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection


class Running:
    """What runs now, if anything does that may be cancelled."""

    def __init__(self) -> None:
        self._session: Connection[Any] | None = None
        self._changing = threading.Lock()

    @contextmanager
    def on(self, connection: Connection[Any]) -> Iterator[None]:
        """When it ends, no cancellation is on its way any more: what comes next on the connection is not hit."""
        with self._changing:
            self._session = connection
        try:
            yield
        finally:
            with self._changing:
                self._session = None

    @property
    def pid(self) -> int | None:
        """The backend of the session, None while nothing runs."""
        session = self._session
        return None if session is None else session.info.backend_pid

    def cancel(self, timeout: float) -> None:
        """Raises `psycopg.Error` when the server does not take it within ``timeout`` seconds."""
        with self._changing:
            if self._session is not None:
                self._session.cancel_safe(timeout=timeout)
