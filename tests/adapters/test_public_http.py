"""The public address over HTTP: every request is a new client's."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from handover.adapters.public_http import at
from handover.ports.public import Answer as Given
from tests.support.web import Answer, Asked, Web, serving

BY_NAME = "localhost"
"""Cookies are for names: a client keeps none of a bare address."""


def answers(web: Web, count: int = 1) -> list[Given]:
    async def work() -> list[Given]:
        async with at(f"http://{BY_NAME}:{web.port}") as public:
            return [await public.get("/health", 10) for _ in range(count)]

    return asyncio.run(work())


def test_what_keeps_a_client_with_its_pod_does_not_keep_us():
    turn = itertools.cycle(["v1.0.0", "v1.1.0"])

    def edge(asked: Asked) -> Answer:
        pod = asked.headers.get("cookie", "").removeprefix("AWSALB=") or next(turn)
        return Answer(headers={"X-Version": pod, "Set-Cookie": f"AWSALB={pod}; Path=/"})

    with serving(edge) as web:
        assert [one.headers["x-version"] for one in answers(web, 4)] == ["v1.0.0", "v1.1.0"] * 2


def test_within_one_request_a_cookie_is_kept_as_it_goes_on():
    def gate(asked: Asked) -> Answer:
        if "seen=1" in asked.headers.get("cookie", ""):
            return Answer()
        return Answer(302, headers={"Location": "/health", "Set-Cookie": "seen=1; Path=/; HttpOnly"})

    with serving(gate) as web:
        assert [one.status for one in answers(web, 2)] == [200, 200]
    assert ["cookie" in one.headers for one in web.asked] == [False, True] * 2


@pytest.mark.parametrize("size", [9_000, 60_000])
def test_a_long_header_is_no_fault_of_an_answer(size):
    with serving(lambda _: Answer(headers={"Content-Security-Policy": "a" * size})) as web:
        (answer,) = answers(web)
    assert (answer.status, len(answer.headers["content-security-policy"])) == (200, size)


def test_a_cache_is_told_that_its_own_answer_is_not_wanted():
    with serving(lambda _: Answer()) as web:
        answers(web)
    assert web.asked[0].headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(("age", "seconds"), [("300", 300), ("0", 0), ("", 0), ("soon", 0), ("1, 2", 0)])
def test_an_answer_says_how_long_a_cache_has_had_it(age, seconds):
    with serving(lambda _: Answer(headers={"Age": age} if age else {})) as web:
        assert answers(web)[0].stored_seconds == seconds
