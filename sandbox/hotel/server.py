"""The process of a pod: start, signals, end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from types import FrameType

import uvicorn

from sandbox.hotel.app import Hotel
from sandbox.hotel.settings import Settings, SettingsError

log = logging.getLogger("pms")

QUIET_SECONDS = 0.5
"""Traffic still comes after SIGTERM, until the pod's address has left every load balancer: wait for such silence."""
LONGEST_SECONDS = 5.0
"""... but no longer than this."""
IDLE_SECONDS = 5
"""A keep-alive connection without a request is closed after this, draining or not."""


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._base = {"version": settings.version, "pod": settings.pod}

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"at": at, "level": record.levelname.lower(), "message": record.getMessage(), **self._base}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(settings: Settings) -> None:
    """Log to stdout; of uvicorn only warnings, and no line for each request."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines(settings))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.INFO)


class Server(uvicorn.Server):
    """uvicorn that keeps serving after SIGTERM until nobody asks any more, then exits with 0."""

    def __init__(self, hotel: Hotel, settings: Settings) -> None:
        self.hotel = hotel
        config = uvicorn.Config(
            hotel.pod, host=settings.host, port=settings.port, log_config=None, access_log=False,
            server_header=False, date_header=False, timeout_keep_alive=IDLE_SECONDS, ws="websockets-sansio",
            timeout_graceful_shutdown=20, backlog=1024,
        )  # fmt: skip
        super().__init__(config)
        self._leaving: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            log.info("serving", extra={"fields": {"host": self.config.host, "port": self.config.port}})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn's signal handler; a second signal ends the wait."""
        if self._loop is None or self._leaving is not None:
            self.should_exit = True
            return
        self._loop.call_soon_threadsafe(self._leave, sig)

    def _leave(self, sig: int) -> None:
        if self._leaving is None:
            log.info("stopping", extra={"fields": {"signal": int(sig)}})
            self._leaving = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        pod = self.hotel.pod
        pod.draining.set()
        begin = time.monotonic()
        while time.monotonic() - begin < LONGEST_SECONDS:
            quiet = time.monotonic() - max(begin, pod.last_request)
            if quiet >= QUIET_SECONDS:
                break
            await asyncio.sleep(QUIET_SECONDS - quiet)
        self.should_exit = True


def main() -> int:
    """Serve until SIGTERM; 1 if the service cannot start."""
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(json.dumps({"level": "error", "message": f"cannot start: {error}"}), flush=True)
        return 1
    set_up_logging(settings)
    if settings.fault == "start":
        log.error("cannot start: the licence file of the payment module is missing")
        return 1
    server = Server(Hotel(settings), settings)
    server.run()
    if not server.started:
        return 1
    log.info("stopped")
    return 0
