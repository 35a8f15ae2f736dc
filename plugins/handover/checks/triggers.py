"""Waits for an endpoint to be healthy, without holding a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.checks.client import Endpoint, endpoint, session
from handover.checks.verdicts import same_version
from handover.models.evidence import Measurement, failed, passed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

POLL_SECONDS = 0.5
REQUEST_SECONDS = 5.0


class HealthTrigger(BaseTrigger):
    """Polls until ``successes`` answers in a row are 200 (and of the wanted version), or until the deadline.

    The event is an `Evidence`. A stock HttpSensor asks again at once after a 503; this one always sleeps. As many
    refusals in a row (401, 403) end the wait as well: the credentials are wrong, and will not become right.
    The token stays in the connection: what is stored of a trigger holds no secret.

    :param deadline: seconds since the epoch
    :param header: of the answer, names the version
    :param version: the version that must answer; None for any
    """

    def __init__(
        self, *, check: str, connection: str, path: str, deadline: float, bearer: bool = False, header: str = "",
        version: str | None = None, successes: int = 3, poll_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.check, self.connection, self.path, self.deadline = check, connection, path, deadline
        self.bearer, self.header, self.version = bearer, header, version
        self.successes, self.poll_seconds = successes, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("check", "connection", "path", "deadline", "bearer", "header", "version", "successes", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        target = await endpoint(self.connection)
        good = refused = 0
        async with session(timeout=REQUEST_SECONDS, keep_alive=False) as http:
            while True:
                status, problem = await self.ask(http, target)
                good = 0 if problem else good + 1
                refused = refused + 1 if status in (401, 403) else 0
                if good >= self.successes:
                    yield self._event(1.0, f"{good} good answers in a row from {self.path}")
                    return
                if refused >= self.successes or clock.epoch() >= self.deadline:
                    yield self._event(0.0, f"{self.path} is not healthy: {problem or f'only {good} good answers'}")
                    return
                await asyncio.sleep(self.poll_seconds)

    async def ask(self, http: aiohttp.ClientSession, target: Endpoint) -> tuple[int, str]:
        """One request: its status (0: no answer), and what is wrong with the answer ("" for nothing)."""
        import aiohttp

        headers = {"Authorization": f"Bearer {target.password}"} if self.bearer and target.password else {}
        try:
            async with http.get(f"{target.url}{self.path}", headers=headers) as answer:
                text = (await answer.text(errors="replace"))[:200]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, f"no answer: {error or type(error).__name__}"
        if answer.status != 200:
            return answer.status, f"status {answer.status}: {text}"
        seen = answer.headers.get(self.header)
        if self.version is not None and not same_version(seen, self.version):
            return 200, f"answered by {seen or 'an unnamed version'} instead of {self.version}"
        return 200, ""

    def _event(self, healthy: float, reason: str) -> TriggerEvent:
        seen = Measurement(what="healthy", value=healthy, source=f"GET {self.path} of {self.connection}")
        evidence = (passed if healthy else failed)(self.check, reason, seen)
        return TriggerEvent(evidence.model_dump(mode="json"))  # type: ignore[no-untyped-call]
