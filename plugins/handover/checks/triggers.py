"""Waits for an endpoint to be healthy, without holding a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.adapters.http import beginning_of, get
from handover.checks.client import Endpoint, endpoint, origin_of, session
from handover.models.answers import NO_ANSWER, Answered, judged, silence
from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.plan.traffic import Origin
from handover.ports.public import stored, stored_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

POLL_SECONDS = 0.5
REQUEST_SECONDS = 5.0


@dataclass(frozen=True)
class Said:
    """What one answer says about the release, and why it is not good."""

    verdict: Answered
    why: str = ""


class HealthTrigger(BaseTrigger):
    """Polls until ``successes`` answers are good (and of the wanted version) with no bad one between them, or until the
    deadline.

    The event is an `Evidence`: UNKNOWN when the last answer says nothing about the release. A stock HttpSensor asks
    again at once after a 503; this one always sleeps. As many refusals in a row (401; 403 to who shows a token) end the
    wait as well: the credentials are wrong, and will not become right.
    The token stays in the connection: what is stored of a trigger holds no secret.

    :param deadline: seconds since the epoch
    :param origin: `Origin` as a mapping; None where any version may answer
    :param wanted: what answers of the right one say, see `Plan.said_by`
    """

    def __init__(
        self, *, check: str, connection: str, path: str, deadline: float, bearer: bool = False,
        origin: dict[str, Any] | None = None, wanted: str = "", successes: int = 3, poll_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.check, self.connection, self.path, self.deadline = check, connection, path, deadline
        self.bearer, self.origin, self.wanted = bearer, origin, wanted
        self._told = Origin(**origin) if origin is not None else None
        self.successes, self.poll_seconds = successes, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("check", "connection", "path", "deadline", "bearer", "origin", "wanted", "successes", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        target = await endpoint(self.connection)
        good = refused = 0
        async with session(timeout=REQUEST_SECONDS, keep_alive=False) as http:
            while True:
                status, said = await self.ask(http, target)
                good = 0 if said.verdict is Answered.BAD else good + (said.verdict is Answered.GOOD)
                refused = refused + 1 if status == 401 or (status == 403 and self.bearer) else 0
                if good >= self.successes:
                    yield self._event(passed, f"{good} good answers in a row from {self.path}")
                    return
                if refused >= self.successes or clock.epoch() >= self.deadline:
                    verdict = unknown if said.verdict is Answered.NO_DATA else failed
                    why = said.why or f"only {good} good answers"
                    yield self._event(verdict, f"{self.path} is not healthy: {why}")
                    return
                await asyncio.sleep(self.poll_seconds)

    async def ask(self, http: aiohttp.ClientSession, target: Endpoint) -> tuple[int, Said]:
        """One request: its status (`NO_ANSWER`: there was none), and what that says."""
        import aiohttp

        headers = {"Authorization": f"Bearer {target.password}"} if self.bearer and target.password else {}
        try:
            async with get(http, f"{target.url}{self.path}", headers) as answer:
                text = await beginning_of(answer)
            seen = await self._origin(http, target.url, answer, text) if judged(answer.status) is Answered.GOOD else ""
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return NO_ANSWER, Said(Answered.BAD, f"no answer: {error or type(error).__name__}")
        status, verdict = answer.status, judged(answer.status)
        if verdict is Answered.NO_DATA:
            return status, Said(verdict, silence(status))
        if verdict is Answered.BAD:
            return status, Said(verdict, f"status {status}: {text[:200]}")
        if kept := stored(stored_seconds(answer.headers)):
            return status, Said(Answered.NO_DATA, kept)
        if self._told is not None and not self._told.is_from(seen, self.wanted):
            return status, Said(Answered.BAD, f"answered by {seen or 'an unnamed version'} instead of {self.wanted}")
        return status, Said(verdict)

    async def _origin(self, http: aiohttp.ClientSession, url: str, answer: aiohttp.ClientResponse, text: str) -> str:
        """What says which version answered: the answer itself, or one to the path that tells it."""
        if self._told is None:
            return ""
        if self._told.path not in (None, self.path):
            return await origin_of(http, url, self.path, self._told)
        return self._told.said(answer.headers, text)

    def _event(self, conclude: Callable[..., Evidence], reason: str) -> TriggerEvent:
        healthy = 1.0 if conclude is passed else 0.0
        seen = Measurement(what="healthy", value=healthy, source=f"GET {self.path} of {self.connection}")
        return TriggerEvent(conclude(self.check, reason, seen).model_dump(mode="json"))  # type: ignore[no-untyped-call]
