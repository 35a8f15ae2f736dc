"""The crowd: sends requests by the clock, whatever becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import deque
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.guests.stream import hold_socket, hold_stream
from sandbox.guests.tally import Tally
from sandbox.guests.wire import ANSWER_SECONDS, Answer, Wire, WireError, connect

WRITE_SECONDS = 0.5
MOST_WAITING = 1000
"""Requests without an answer at which the next ones are counted as overload instead of sent."""
KEEP_ALIVE = 8
"""Connections that are used again and again."""
FRESH_SHARE = 0.6
"""Of the requests that get a connection of their own."""
LAST_SECONDS = 5.0
"""How long the end waits for answers that are still due."""
LOGIN_PAUSE = 1.0


@dataclass(frozen=True)
class Call:
    """What a guest asks for."""

    method: str
    path: str
    weight: int
    needs_token: bool = True

    @property
    def safe(self) -> bool:
        """May be sent a second time when a kept connection turns out to be closed."""
        return self.method == "GET"


HEALTH = Call("GET", "/health", 8, needs_token=False)
BOOK = Call("POST", "/bookings", 12)
PAY = Call("POST", "/payments", 6)
CALLS = (
    Call("GET", "/rooms", 20),
    Call("GET", "/rooms?page=2", 6),
    Call("GET", "/rooms?page=3", 6),
    Call("GET", "/bookings", 24),
    Call("GET", "/staff", 12),
    Call("GET", "/banner", 6, needs_token=False),
    HEALTH,
    BOOK,
    PAY,
)


class Crowd:
    """Guests at one address. `run` sends until `stop` is called or the time is up; `tally` has the counts."""

    def __init__(
        self,
        url: str,
        rate: float = 150.0,
        *,
        email: str | None = None,
        password: str | None = None,
        out: Path | None = None,
        events: Path | None = None,
        answers: Path | None = None,
        stream: bool = True,
        socket: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
        seed: int | None = None,
    ) -> None:
        """`rate` in requests a second. Without e-mail and password only calls that need no login are made."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("expected a URL such as http://127.0.0.1:8080")
        self.host, self.port = parts.hostname, parts.port or 80
        self.rate = rate
        self.tally = Tally(events, answers)
        self._account = {"email": email, "password": password} if email and password else None
        self._out = out
        self._stream, self._socket = stream, socket
        self._answer_seconds = answer_seconds
        self._random = random.Random(seed)
        self._token = ""
        self._login: asyncio.Task[None] | None = None
        self._heads: dict[tuple[Call, bool], bytes] = {}
        self._unpaid: deque[int] = deque(maxlen=100)
        self._kept: deque[Wire] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._pick = self._picks()

    def stop(self) -> None:
        """End the run; for another thread, wrap in `loop.call_soon_threadsafe`."""
        self._stop.set()

    # --- what to send

    def _picks(self) -> Any:
        """Endless calls in a random order with the right shares, drawn in batches because a draw each costs more."""
        weights = [call.weight for call in CALLS]
        return itertools.chain.from_iterable(self._random.choices(CALLS, weights, k=200) for _ in itertools.count())

    def _next(self) -> Call:
        call: Call = next(self._pick)
        if call.needs_token and not self._token:
            return HEALTH
        return BOOK if call is PAY and not self._unpaid else call

    def _body(self, call: Call) -> bytes:
        """Stays lie far apart at random; payments are for a booking made before."""
        if call is PAY and self._unpaid:
            return json.dumps({"bookingId": self._unpaid.popleft(), "amount": 100}).encode()
        begin = date.today() + timedelta(days=self._random.randrange(1, 3000))
        room, nights = self._random.randrange(1, 200), self._random.randrange(1, 7)
        stay = {"roomId": str(room), "checkIn": str(begin), "checkOut": str(begin + timedelta(days=nights))}
        return json.dumps(stay).encode()

    def _head(self, call: Call, *, fresh: bool) -> bytes:
        """The head of a request up to what differs, made once for each token."""
        found = self._heads.get((call, fresh))
        if found is None:
            lines = [f"{call.method} {call.path} HTTP/1.1", f"Host: {self.host}:{self.port}", "User-Agent: pms-guests"]
            if call.needs_token:
                lines.append(f"Authorization: Bearer {self._token}")
            if fresh:
                lines.append("Connection: close")
            found = self._heads[call, fresh] = "\r\n".join(lines).encode()
        return found

    def _request(self, call: Call, body: bytes | None, *, fresh: bool) -> bytes:
        head = self._head(call, fresh=fresh)
        if body is None:
            return head + b"\r\n\r\n"
        return b"%b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    # --- sending

    async def _on_new(self, call: Call, body: bytes | None) -> Answer:
        wire = await connect(self.host, self.port)
        try:
            return await wire.request(self._request(call, body, fresh=True), self._answer_seconds)
        finally:
            wire.close()

    def _free_wire(self) -> Wire | None:
        """A kept connection that is open and not in use; those the server has closed meanwhile are let go."""
        while self._kept:
            wire = self._kept.popleft()
            if not wire.lost:
                return wire
            self.tally.reopened += 1
        return None

    async def _on_kept(self, call: Call, body: bytes | None) -> tuple[Answer, bool]:
        """Use a kept connection, or open one; the flag tells whether it was new.

        A server may close an idle connection just as we send. A safe request is then sent once more on a new
        connection, as RFC 9112 (9.3.1) allows; anything else is a failure.
        """
        wire = self._free_wire()
        if wire is not None:
            try:
                return await self._exchange(wire, call, body), False
            except WireError as error:
                if not (call.safe and error.unanswered and error.kind in ("reset", "cut")):
                    raise
                self.tally.reopened += 1
        wire = await connect(self.host, self.port)
        return await self._exchange(wire, call, body), True

    async def _exchange(self, wire: Wire, call: Call, body: bytes | None) -> Answer:
        try:
            answer = await wire.request(self._request(call, body, fresh=False), self._answer_seconds)
        except BaseException:
            wire.close()
            raise
        if answer.close or len(self._kept) >= KEEP_ALIVE:
            wire.close()
        else:
            self._kept.append(wire)
        return answer

    async def _send(self, call: Call, fresh: bool) -> None:
        """One request from beginning to end; whatever happens is counted."""
        body = self._body(call) if call.method == "POST" else None
        began = time.time()
        try:
            if fresh:
                answer, new = await self._on_new(call, body), True
            else:
                answer, new = await self._on_kept(call, body)
        except WireError as error:
            self.tally.fail(error.kind, call.path, began, fresh=fresh)
            return
        except Exception:
            self.tally.fail("other", call.path, began, fresh=fresh)
            raise
        self.tally.answer(answer.status, answer.version, call.path, began, fresh=new)
        if answer.status == 401:
            self._log_in_again()
        elif call is BOOK and answer.status == 201:
            self._unpaid.append(json.loads(answer.body)["id"])

    # --- login

    def _log_in_again(self) -> None:
        if self._account is not None and (self._login is None or self._login.done()):
            self._login = asyncio.create_task(self._log_in())

    async def _log_in(self) -> None:
        """Fetch a token, however long it takes; its requests are not part of the load."""
        call = Call("POST", "/auth/login", 0, needs_token=False)
        while True:
            with contextlib.suppress(WireError, ValueError, KeyError):
                answer = await self._on_new(call, json.dumps(self._account).encode())
                if answer.status == 200:
                    self._token = json.loads(answer.body)["token"]
                    self._heads.clear()
                    return
            await asyncio.sleep(LOGIN_PAUSE)

    # --- the run

    async def run(self, seconds: float | None = None) -> dict[str, Any]:
        """Send until the time is up or `stop`; gives the summary, and writes it if there is a file for it."""
        self._log_in_again()
        if self._login is not None:
            await asyncio.wait({self._login}, timeout=LOGIN_PAUSE)
        helpers = [asyncio.create_task(self._keep_writing())]
        if self._stream:
            helpers.append(asyncio.create_task(hold_stream(self.host, self.port, self.tally)))
        if self._socket:
            helpers.append(asyncio.create_task(hold_socket(self.host, self.port, self.tally)))
        try:
            await self._keep_sending(seconds)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        finally:
            for task in [*helpers, *self._tasks, *([self._login] if self._login else [])]:
                task.cancel()
            while self._kept:
                self._kept.popleft().close()
            if self._out is not None:
                self.tally.write(self._out)
            self.tally.close()
        return self.tally.summary()

    async def _keep_sending(self, seconds: float | None) -> None:
        """Open loop: each request has its time, and a slow answer delays none of the others."""
        loop = asyncio.get_running_loop()
        begin = due = loop.time()
        while not self._stop.is_set() and (seconds is None or due - begin < seconds):
            delay = due - loop.time()
            if delay > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
                    return
            self._start_one()
            due += 1 / self.rate

    def _start_one(self) -> None:
        if len(self._tasks) >= MOST_WAITING:
            self.tally.overload += 1
            return
        self.tally.send()
        task = asyncio.create_task(self._send(self._next(), self._random.random() < FRESH_SHARE))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_writing(self) -> None:
        while self._out is not None:
            self.tally.write(self._out, whole=False)
            await asyncio.sleep(WRITE_SECONDS)
