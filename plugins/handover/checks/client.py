"""The service as its clients see it: where it is, how to log in, and how fast it answers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from handover import clock
from handover.adapters.http import base_url, beginning_of, get, new_clients
from handover.models.answers import NO_ANSWER, Answered, judged, problem, silence
from handover.models.evidence import Evidence, Measurement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from handover.plan.model import Plan
    from handover.plan.traffic import Origin

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10.0
ROUNDS = 3
"""Only what is bad each time is bad."""
STABLE = 200
"""What the stable version answered to the login and to each path: else there would be no baseline (plan 4.2)."""
MAX_FAILURES = 20
"""More bad answers would say no more, and each may take `TIMEOUT_SECONDS`."""


class LoginFailed(RuntimeError):
    """The test user could not log in. ``verdict``: UNKNOWN when that says nothing about the release."""

    def __init__(self, why: str, verdict: Verdict = Verdict.FAIL) -> None:
        super().__init__(why)
        self.verdict = verdict

    def evidence(self, check: str, *measurements: Measurement) -> Evidence:
        return Evidence(check=check, verdict=self.verdict, reason=str(self), measurements=measurements)


@dataclass(frozen=True)
class Endpoint:
    """An HTTP connection: address and secrets, which no representation shows."""

    url: str
    password: str = field(default="", repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def test_user(self) -> tuple[str, str]:
        """E-mail and password of the user that checks log in with. Raises `LoginFailed` when there is none."""
        try:
            return self.extra["test_email"], self.extra["test_password"]
        except KeyError as key:
            raise LoginFailed(f"the connection's extra has no {key}: the checks need a test user") from None


async def endpoint(connection_id: str) -> Endpoint:
    """The endpoint behind an Airflow connection; usable in tasks and in the triggerer."""
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    connection = await get_async_connection(connection_id)
    return Endpoint(base_url(connection), connection.password or "", await get_async_extra_dejson(connection))


def session(
    concurrency: int = 1, timeout: float = TIMEOUT_SECONDS, *, keep_alive: bool = True
) -> aiohttp.ClientSession:
    """A bounded client; without ``keep_alive`` every request is a new connection, and so may reach another pod."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency, force_close=not keep_alive)
    return new_clients(connector, timeout=aiohttp.ClientTimeout(total=timeout))


async def log_in(http: aiohttp.ClientSession, api: Endpoint, path: str | None) -> dict[str, str]:
    """Logs the test user in; gives the headers of its further requests, none without a path. Raises `LoginFailed`."""
    if path is None:
        return {}
    email, password = api.test_user
    body = {"email": email, "password": password}
    async with http.post(f"{api.url}{path}", json=body, allow_redirects=False) as answer:
        verdict = judged(answer.status, stable=STABLE)
        if verdict is Answered.NO_DATA:
            raise LoginFailed(f"POST {path}: {silence(answer.status, stable=STABLE)}", Verdict.UNKNOWN)
        if verdict is Answered.BAD:
            raise LoginFailed(f"POST {path}: {answer.status} for the test user")
        try:
            said = await answer.json(content_type=None)
        except ValueError:
            said = None
    token = said.get("token") if isinstance(said, dict) else None
    if not token:
        raise LoginFailed(f"POST {path}: the answer ({answer.status}) holds no token")
    return {"Authorization": f"Bearer {token}"}


async def origin_of(http: aiohttp.ClientSession, url: str, path: str, origin: Origin) -> str:
    """What the answer to a path says of the version that gave it; empty for nothing.

    Raises `aiohttp.ClientError` and `TimeoutError`.
    """
    async with get(http, f"{url}{origin.path or path}") as answer:
        return origin.said(answer.headers, await beginning_of(answer))


@dataclass(frozen=True)
class Load:
    """What a series of requests showed. ``seconds``: of each good answer; ``elapsed``: of the whole series;
    ``silences``: why others say nothing about the release.
    """

    seconds: tuple[float, ...]
    failures: tuple[str, ...]
    elapsed: float
    silences: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Those that say something."""
        return len(self.seconds) + len(self.failures)


async def measure(plan: Plan) -> Load:
    """Asks for the plan's ``performance.paths`` through the public Service, as a logged-in user (plan 4.2).

    Raises `LoginFailed`, or `aiohttp.ClientError` when not even the login is answered.
    """
    api = await endpoint(plan.traffic.api_connection)
    how = plan.performance
    async with session(how.concurrency) as http:
        headers = await log_in(http, api, plan.health.login_path)
        # the health endpoint takes no user's token: any bearer it is given must be the health token
        asked = [(api.url + path, {} if path == plan.health.path else headers) for path in how.paths]
        return await load(http, asked, how.requests, how.concurrency)


async def measure_until_good(plan: Plan, judge: Callable[[Load], Evidence], pause_seconds: float = 0.0) -> Evidence:
    """The first of `ROUNDS` series (`measure`) that is good by ``judge``, or else the last: one bad series is not yet a
    slow service.
    """
    evidence = judge(await measure(plan))
    for _ in range(ROUNDS - 1):
        if evidence.passed:
            break
        log.warning("%s", evidence.reason)
        await asyncio.sleep(pause_seconds)
        evidence = judge(await measure(plan))
    return evidence


async def load(
    http: aiohttp.ClientSession, asked: Sequence[tuple[str, dict[str, str]]], requests: int, concurrency: int
) -> Load:
    """``requests`` GETs over URLs and their headers in turn, ``concurrency`` at a time.

    A good answer is complete (see `handover.models.answers`). A series with more than `MAX_FAILURES` others ends there.
    """
    seconds: list[float] = []
    failures: list[str] = []
    silences: list[str] = []
    waiting = iter(list(islice(cycle(asked), requests)))

    async def work() -> None:
        for url, headers in waiting:
            if max(len(failures), len(silences)) > MAX_FAILURES:
                return
            begun = clock.monotonic()
            path, status, why = await _get(http, url, headers)
            if wrong := problem(status, why, stable=STABLE):
                failures.append(f"GET {path}: {wrong}")
            elif said_nothing := silence(status, stable=STABLE):
                silences.append(f"GET {path}: {said_nothing}")
            else:
                seconds.append(clock.monotonic() - begun)

    begun = clock.monotonic()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return Load(tuple(seconds), tuple(failures), clock.monotonic() - begun, tuple(silences))


async def _get(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> tuple[str, int, str]:
    """Path, status, and why there was no answer."""
    import aiohttp

    path = urlsplit(url).path
    try:
        async with get(http, url, headers) as answer:
            await beginning_of(answer)
            return path, answer.status, ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return path, NO_ANSWER, type(error).__name__
