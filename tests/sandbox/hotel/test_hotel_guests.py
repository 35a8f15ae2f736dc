"""The guests at a real pod: nobody notices that it drains and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sandbox.guests.crowd import Crowd
from sandbox.hotel import seed
from sandbox.hotel.scripts.checks import Client
from tests.sandbox.hotel.conftest import ADMIN_TOKEN, PASSWORD, PodProcess

pytestmark = pytest.mark.sandbox


def test_draining_loses_no_request(start_pod: Callable[..., PodProcess], database: str) -> None:
    pod = start_pod(database)
    crowd = Crowd(pod.url, 100, email=seed.TEST_EMAIL, password=PASSWORD)

    async def operate() -> None:
        client = Client(pod.url)
        for method in ("POST", "DELETE"):
            await asyncio.sleep(0.7)
            await asyncio.to_thread(client.want, 200, method, "/-/drain", None, ADMIN_TOKEN)

    async def run() -> None:
        await asyncio.gather(crowd.run(2), operate())

    asyncio.run(run())
    result = crowd.tally.summary()
    assert (result["failed"], result["bad_answers"], result["overload"]) == (0, 0, 0)
    assert set(result["statuses"]) == {"200", "201"}
    assert result["answered"] >= 195
    assert result["by_version"].keys() == {"v1.1.0"}
    assert result["streams"]["ended"] >= 1
