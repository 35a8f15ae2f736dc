"""The steps of work that may be killed: whatever it says to PostgreSQL, to S3 and to programs, in the order in which it
does. A process counts them, and ends or stops itself at those that it was told.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Collection, Generator, Iterator
from typing import Any

import psycopg

from handover.database import packing

ASKS, SENT, REQUEST, PROGRAM, BLOCK = "before a statement", "a statement is sent", "S3 request", "program", "block"
OF_A_COPY = ("read_gen", "copy_to", "copy_from")
"""Each row that goes by is one: all of them are one step."""
_READS = 1
"""psycopg's sign that all is sent, and the answer is waited for."""


class Points:
    """Steps so far. ``at``: numbers of those at which the process gets the signal ``number``."""

    def __init__(self, at: Collection[int], number: int) -> None:
        self.seen: list[str] = []
        self._at, self._number, self._one = at, number, threading.Lock()
        self._copies = False

    def step(self, kind: str, what: str = "") -> None:
        with self._one:
            self.seen.append(f"{kind}: {what}" if what else kind)
            if len(self.seen) - 1 in self._at:
                os.kill(os.getpid(), self._number)

    def watch(self) -> None:
        """From here on, in this process, for good."""
        self._statements()
        self._programs()
        self._blocks()

    def watch_s3(self, client: Any) -> Any:
        client.meta.events.register("before-send.s3", lambda request, **_: self.step(REQUEST, _said(request)))
        return client

    def _statements(self) -> None:
        wait = psycopg.Connection.wait

        def waits(connection: Any, gen: Any, *options: Any, **named: Any) -> Any:
            what = _statement(gen)
            goes_on, self._copies = self._copies and what in OF_A_COPY, what in OF_A_COPY
            if goes_on:
                return wait(connection, gen, *options, **named)
            self.step(ASKS, what)
            return wait(connection, self._sending(gen, what), *options, **named)

        setattr(psycopg.Connection, "wait", waits)  # noqa: B010 - mypy takes no other function there

    def _sending(self, gen: Any, what: str) -> Generator[Any, Any, Any]:
        try:
            state, told = next(gen), False
            while True:
                if state == _READS and not told:
                    told = True
                    self.step(SENT, what)
                state = gen.send((yield state))
        except StopIteration as end:
            return end.value

    def _programs(self) -> None:
        begin = subprocess.Popen.__init__

        def begins(process: Any, argv: Any, *options: Any, **named: Any) -> None:
            begin(process, argv, *options, **named)
            self.step(PROGRAM, " ".join(os.path.basename(part) for part in argv[:2]))

        setattr(subprocess.Popen, "__init__", begins)  # noqa: B010

    def _blocks(self) -> None:
        unpacked = packing.unpacked

        def given(blocks: Iterator[bytes]) -> Iterator[bytes]:
            for block in unpacked(blocks):
                self.step(BLOCK, "to pg_restore")
                yield block

        packing.unpacked = given


def _statement(gen: Any) -> str:
    """The beginning of what is said, where the generator tells."""
    frame = getattr(gen, "gi_frame", None)
    query = frame.f_locals.get("query") or frame.f_locals.get("statement") if frame else None
    if query is None:
        return str(getattr(gen, "__qualname__", "")).rpartition(".")[2].strip("_")
    text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string()
    return " ".join(text.split())[:70]


def _said(request: Any) -> str:
    return f"{request.method} {request.url.partition('://')[2].partition('/')[2][:60]}"
