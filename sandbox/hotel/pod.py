"""What surrounds every request of a pod: its name on the answer, metrics, draining, and misbehaviour on request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.hotel.metrics import Metrics
from sandbox.hotel.settings import ERRORS_AFTER, SLOW_SECONDS, Settings

log = logging.getLogger("pms")

_INTERNAL_ERROR = json.dumps({"error": "internal error"}).encode()


@dataclass
class Fault:
    """How the pod misbehaves: `errors` answers 500, `slow` waits, `smoke` breaks one route, anything else nothing."""

    mode: str = "none"
    delay_seconds: float = SLOW_SECONDS
    after: int = 0
    """Requests that are still answered well."""
    seen: int = 0

    @classmethod
    def of_release(cls, mode: str) -> Fault:
        """A bad release shows itself only under traffic."""
        return cls(mode, after=ERRORS_AFTER)

    def strikes(self, path: str) -> str:
        """Count a request; `errors`, `slow` or nothing for it."""
        self.seen += 1
        if self.mode == "smoke":
            return "errors" if path == "/rooms/availability" else ""
        return self.mode if self.mode in ("errors", "slow") and self.seen >= self.after else ""


class Pod:
    """ASGI wrapper around the application.

    Probes of the kubelet are spared from faults and not counted: a bad release whose pods stay ready is the harder
    case for a deployment, and the one it has to notice by its own means.

    Draining does not close idle keep-alive connections at once: a client may be sending on them at that moment, and
    would see a reset. Their next answer says `Connection: close`, and the server drops those that stay idle anyway.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._identity = [(b"x-version", settings.version.encode()), (b"x-pod", settings.pod.encode())]
        self.fault = Fault.of_release(settings.fault)
        self.draining = asyncio.Event()
        self.last_request = time.monotonic()
        """When the last request that is not a probe began; seconds of the monotonic clock."""
        self.streams = 0
        """Event streams and WebSockets open now."""
        self._last_log = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        probe = any(k == b"user-agent" and v.startswith(b"kube-probe/") for k, v in scope["headers"])
        inner = probe or path == "/metrics" or path.startswith("/-/")
        started = time.monotonic()
        if not inner:
            self.last_request = started

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = [*message.get("headers", ()), *self._identity]
                if self.draining.is_set():
                    headers.append((b"connection", b"close"))
                if not inner:
                    self._metrics.answered(message["status"], time.monotonic() - started)
            elif message["type"] == "http.response.body":
                self._metrics.moved(len(message.get("body", b"")))
            await send(message)

        async def count() -> Message:
            message = await receive()
            self._metrics.moved(len(message.get("body", b"")))
            return message

        if not inner and await self._misbehaves(path, answer):
            return
        await self._app(scope, count, answer)

    async def _misbehaves(self, path: str, send: Send) -> bool:
        """Apply the fault; True if it has answered."""
        strike = self.fault.strikes(path)
        if strike == "slow":
            await asyncio.sleep(self.fault.delay_seconds)
        if strike != "errors":
            return False
        now = time.monotonic()
        if now - self._last_log > 1:  # one line a second says as much as a hundred
            self._last_log = now
            log.error("unhandled error", extra={"fields": {"path": path}})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_INTERNAL_ERROR))]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": _INTERNAL_ERROR})
        return True
