"""Tells every open page when to ask again: one look at the world for all of them, by server-sent events."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Literal

from starlette.responses import JSONResponse, StreamingResponse

from handover import clock
from handover.workflows.page.reader import LOOK_SECONDS, Reader
from handover.workflows.page.views import Away, Changed, Now

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
What = Literal["now", "deployment", "measurements"]
EVERYTHING: tuple[What, ...] = ("now", "deployment", "measurements")
BEAT_SECONDS = 10.0
"""A line of comment after so long without an event, so that nothing in between takes the connection for dead."""
STREAM_SECONDS = 60.0
"""Then the page connects again: whoever may not look any more, or a server that is to stop, waits no longer."""
SIGN_SECONDS = 5.0
"""How often a watch that goes on as before is news."""
MOST_STREAMS = 100
"""Of this process: whoever comes then polls."""


class Streams:
    """Of all plans. ``open``: how many connections there are."""

    def __init__(self) -> None:
        self.open = 0
        self._news: dict[str, News] = {}

    def of(self, reader: Reader) -> News:
        return self._news.setdefault(reader.plan.name, News(reader))

    async def close(self) -> None:
        for news in self._news.values():
            await news.close()


class EventStream(StreamingResponse):
    """One client's; 503 when too many are open."""

    def __init__(self, streams: Streams, reader: Reader, known: str) -> None:
        super().__init__(streams.of(reader).follow(known), media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Accel-Buffering"] = "no"  # a proxy shall not keep events back
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams.open >= MOST_STREAMS:
            said = Away(detail=f"{MOST_STREAMS} pages are open already: ask again every few seconds instead")
            await JSONResponse(said.model_dump(), 503)(scope, receive, send)
            return
        self._streams.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


class News:
    """What has changed of one plan, for all who listen; looks only while somebody does."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._listening = reader, 0
        self._marks: dict[What, str] = {}
        self._turn = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None

    async def follow(self, known: str) -> AsyncIterator[str]:
        """Lines of an event stream, for `STREAM_SECONDS`.

        :param known: id of the last event that this client had; "" for none
        """
        self._listening += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            async for line in self._lines(known):
                yield line
        finally:
            self._listening -= 1
            if not self._listening:
                await self.close()

    async def close(self) -> None:
        """Looks no more, and forgets: who comes next is told what is so then."""
        if self._looking is not None:
            looking, self._looking, self._marks = self._looking, None, {}
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _lines(self, known: str) -> AsyncIterator[str]:
        ends, told = clock.monotonic() + STREAM_SECONDS, dict[What, str]()
        yield "retry: 1000\n\n"
        while (left := ends - clock.monotonic()) > 0:
            if not await self._differs(told, min(BEAT_SECONDS, left)):
                yield ": still here\n\n"
                continue
            what = tuple(one for one in EVERYTHING if told.get(one) != self._marks[one])
            told = dict(self._marks)
            if (name := _name(told)) != known:
                yield f"id: {name}\nevent: changed\ndata: {self._changed(what)}\n\n"
            known = ""

    async def _differs(self, told: Mapping[What, str], seconds: float) -> bool:
        """Waits until there is news."""
        try:
            async with asyncio.timeout(seconds), self._turn:
                await self._turn.wait_for(lambda: bool(self._marks) and self._marks != told)
        except TimeoutError:
            return False
        return True

    def _changed(self, what: tuple[What, ...]) -> str:
        return Changed(what=what, run=self._reader.run).model_dump_json()

    async def _look(self) -> None:
        while True:
            try:
                marks = await self._marked()
            except Exception:  # what nobody has foreseen stops no page from hearing the rest
                log.exception("the page of %s was not looked at", self._reader.plan.name)
            else:
                async with self._turn:
                    self._marks = marks
                    self._turn.notify_all()
            await asyncio.sleep(LOOK_SECONDS)

    async def _marked(self) -> dict[What, str]:
        """A text of each kind, which is another one when there is something new."""
        now, mark = await self._reader.now(), self._reader.ledger.value
        entries, measured = (mark.entries, str(mark.measured_at)) if mark else ("", "")
        return {"now": essence(now), "deployment": f"{self._reader.run} {entries}", "measurements": measured}


def essence(now: Now) -> str:
    """What is news of this moment: not that time goes by, nor each beat of a watch."""
    parts = [(name, one and (one.answers, one.answers or name == "watch" or one.reason)) for name, one in now.parts]
    watches = [
        (one.watcher, one.silent, one.armed, one.verdict, one.clean_since is None, one.at // SIGN_SECONDS)
        for one in now.watches
    ]
    return f"{now.model_dump_json(exclude={'at', 'parts', 'watches'})} {parts} {watches}"


def _name(marks: Mapping[What, str]) -> str:
    return hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]
