"""What guests see of an event while the new version is watched, by whichever side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.argo.comparison import WINDOW_SECONDS, Bad, Cause, Round, Who, judge, serving
from sandbox.crowds import Guests
from sandbox.cutover import read_answers
from sandbox.rounds import NEW
from sandbox.settings import SandboxError

RATE = 300.0
"""Requests a second."""
SETTLE_SECONDS = 3.0
"""Guests send for so long before anything happens: the first samples of either watch are behind it."""
QUIET_SECONDS = 2.0
"""Without a request on a new connection to the new version: traffic is back."""
BACK_SECONDS = 60.0
POLL_SECONDS = 0.02
Event = Callable[[], float]
"""Makes something happen; gives when (Unix seconds)."""


class Disturbed(Exception):
    """Something else than the cause moved traffic, as a busy machine does: the round says nothing, and is repeated."""


class Moment:
    """When a condition first held (Unix seconds, None while it has not), looked at on a thread of its own."""

    def __init__(self, condition: Callable[[], bool] | None) -> None:
        self.at: float | None = None
        self._condition = condition
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while self._condition is not None and not self._stop.wait(POLL_SECONDS):
            if self._condition():
                self.at = time.time()
                return


def observe(
    who: Who, cause: Cause, event: Event, endpoints: dict[str, Any], folder: Path,
    decided: Callable[[], bool] | None = None,
) -> Round:  # fmt: skip
    """Raises `Disturbed` when the new version was not all that served when it happened.

    :param endpoints: of the guests
    :param folder: for what they write
    :param decided: whether this side has come to a decision; asked again and again
    """
    with Guests(endpoints, folder, rate=RATE, every_answer=True) as guests:
        time.sleep(SETTLE_SECONDS)
        with Moment(decided) as decision:
            moment = event()
            _until_back(guests, moment)
        time.sleep(max(0.0, moment + WINDOW_SECONDS - time.time()))
    answers = list(read_answers(guests.answers))
    if (versions := serving(answers, moment)) != {NEW}:
        raise Disturbed(f"{who}, {cause}: new connections reached {sorted(versions) or 'nothing'} before it happened")
    if decided and decision.at is None:
        raise SandboxError(f"{who}, {cause}: traffic is back, but nobody saw the decision")
    return judge(
        who, cause, moment, NEW, answers=answers, bad=_read_bad(guests.events), requests=guests.report()["sent"],
        decided=decision.at,
    )  # fmt: skip


def _until_back(guests: Guests, moment: float) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        report = guests.report()
        last = report["new_connections"].get(NEW, {}).get("last_started", moment)
        if report["at"] > max(last, moment) + QUIET_SECONDS:
            return
        if time.monotonic() > deadline:
            raise SandboxError(f"traffic is not back after {BACK_SECONDS:g} s")
        time.sleep(0.2)


def _read_bad(path: Path) -> list[Bad]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [Bad(event["at"], event["fresh"], event.get("kind", "")) for event in events]
