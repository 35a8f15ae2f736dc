"""Open pages are told what to ask for again, by one look for all of them, and for as long as they are there."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest
import uvicorn

from handover.coordination import state as states
from handover.models.measures import Phase
from handover.models.record import Sample
from handover.record.browse import Mark
from handover.workflows.page import streams
from handover.workflows.page.reader import Reader
from handover.workflows.page.streams import BEAT_SECONDS, EVERYTHING, STREAM_SECONDS, News
from tests.record import made
from tests.support.page import WHO
from tests.support.steps import RUN_ID, opened
from tests.support.until import until_async
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.twins.world import twin  # noqa: F401 - a fixture

EVENTS = "/handover/plans/pms/events"


def said(event):
    """The kinds of an event's line, "" for one that is none."""
    data = [line.removeprefix("data: ") for line in event.splitlines() if line.startswith("data: ")]
    return tuple(json.loads(data[0])["what"]) if data else ""


@pytest.fixture
def reader(twin):  # noqa: F811
    """Of a plan that records nothing, in virtual time; how often the cluster was looked at is counted."""
    reader = Reader(twin.plan.model_copy(update={"record": None, "followups": None}))
    reader.looks = 0
    look = reader.cluster._ask

    async def counted():
        reader.looks += 1
        return await look()

    reader.cluster._ask = counted
    return reader


async def heard(news, known="", until=None):
    """What one client hears until its stream ends."""
    lines = []
    async with contextlib.aclosing(news.follow(known)) as stream:
        async for line in stream:
            lines.append(line)
            if until and until(line):
                break
    return lines


def test_a_page_hears_everything_once_and_then_only_that_the_line_is_alive(reader):
    lines = asyncio.run(heard(News(reader)))
    assert [said(line) for line in lines if said(line)] == [EVERYTHING]
    assert lines.count(": still here\n\n") == STREAM_SECONDS / BEAT_SECONDS
    assert lines[0].startswith("retry: ")


def test_ten_pages_cost_one_look(reader):
    async def ten():
        news = News(reader)
        await asyncio.gather(*(heard(news) for _ in range(10)))
        return news

    news = asyncio.run(ten())
    assert reader.looks <= STREAM_SECONDS + 1
    assert news._looking is None, "nobody listens any more"


def test_a_change_is_told_to_everybody_who_listens(reader, twin):  # noqa: F811
    async def changed():
        news, lock = News(reader), reader.plan.lock_name
        pages = [asyncio.create_task(heard(news)) for _ in range(3)]
        await asyncio.sleep(5)
        token = await opened(twin.kube(), lock, "registry.example.com/shop/web:v1")
        await asyncio.sleep(5)
        await states.update(twin.kube(), lock, token, lambda old: old.model_copy(update={"phase": Phase.TESTING}))
        return await asyncio.gather(*pages)

    for lines in asyncio.run(changed()):
        kinds = [said(line) for line in lines if said(line)]
        assert (kinds[0], "deployment" in kinds[-2], kinds[-1]) == (EVERYTHING, True, ("now",))
        assert f'"run":"{RUN_ID}"' in next(line for line in reversed(lines) if said(line))


def test_new_entries_and_new_measurements_are_told_apart(reader):
    async def added():
        news, reader.ledger.value = News(reader), Mark("1", 10.0)
        page = asyncio.create_task(heard(news))
        await asyncio.sleep(5)
        reader.ledger.value = Mark("1", 11.0)
        await asyncio.sleep(5)
        reader.ledger.value = Mark("2", 11.0)
        return await page

    lines = asyncio.run(added())
    assert [said(line) for line in lines if said(line)] == [EVERYTHING, ("measurements",), ("deployment",)]


def test_a_page_that_comes_back_hears_only_what_it_has_missed(reader):
    async def twice():
        news = News(reader)
        first = await heard(news)
        known = next(line for line in first if said(line)).splitlines()[0].removeprefix("id: ")
        return await heard(news, known), await heard(news, "another")

    same, other = asyncio.run(twice())
    assert [said(line) for line in same if said(line)] == []
    assert [said(line) for line in other if said(line)] == [EVERYTHING]


def test_a_look_that_fails_ends_no_stream(reader, monkeypatch):
    monkeypatch.setattr(streams, "essence", lambda _now: 1 / 0)
    lines = asyncio.run(heard(News(reader)))
    assert lines[1:] == [": still here\n\n"] * int(STREAM_SECONDS / BEAT_SECONDS)


def test_when_too_many_pages_are_open_the_next_one_polls(desk, monkeypatch):
    monkeypatch.setattr(streams, "MOST_STREAMS", 0)
    answer = desk.get("/plans/pms/events")
    assert (answer.status_code, "ask again every few seconds" in answer.json()["detail"]) == (503, True)
    assert desk.inner.state.streams.open == 0


def test_a_browser_hears_of_new_measurements_and_its_end_is_noticed(desk, recorded):
    """Over a real connection, with the real ledger."""
    recorded.ledger.write([made.deployment(RUN_ID)])
    desk.deploy()
    sample = Sample(what="cpu", source="pods", at=made.START, value=1.0).of(RUN_ID, RUN_ID, "watch")

    async def listen():
        server = uvicorn.Server(uvicorn.Config(desk.app, port=0, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve())
        await until_async(lambda: _now(server.started), "the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        kinds, open_streams = [], desk.inner.state.streams
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={WHO: "viewer"}, timeout=60,
                                     trust_env=False) as web:  # fmt: skip
            async with web.stream("GET", EVENTS) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        kinds.append(json.loads(line.removeprefix("data: "))["what"])
                        if "measurements" in kinds[-1] and len(kinds) > 1:
                            break
                        await asyncio.to_thread(recorded.ledger.write, [sample])
                assert open_streams.open == 1
            await until_async(lambda: _now(open_streams.open == 0), "the end of the stream")
        server.should_exit = True
        await serving
        return answer, kinds

    with desk.outside():
        answer, kinds = asyncio.run(listen())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert kinds[0] == list(EVERYTHING) and "measurements" in kinds[-1]


async def _now(value):
    return value
