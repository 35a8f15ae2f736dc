"""The guests as a process of their own, beside whatever is done to the system they use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 20.0


class Guests:
    """Sends requests through the public Service from `__enter__` to `__exit__`; `report` reads the counts.

    With ``every_answer``, the file `answers` holds a line for each: Unix time it was sent for, version, 1 if its
    connection was new.
    """

    def __init__(
        self, endpoints: dict[str, Any], folder: Path, *, rate: float = 150.0, every_answer: bool = False
    ) -> None:
        self._endpoints, self._rate = endpoints, rate
        self._out, self._log = folder / "guests.json", folder / "guests.log"
        self.events, self.answers = folder / "guests.jsonl", folder / "guests.answers"
        self._more = ["--answers", str(self.answers)] if every_answer else []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for old in (self._out, self.events, self.answers):
            old.unlink(missing_ok=True)
        login = self._endpoints["hotel"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *self._endpoints["guests"]["enter"],
                    sys.executable, "-m", "sandbox.guests", "--url", self._endpoints["guests"]["url"],
                    "--rate", str(self._rate), "--out", str(self._out), "--events", str(self.events),
                    *self._more,
                ],
                env=os.environ | {"GUESTS_EMAIL": login["test_email"], "GUESTS_PASSWORD": login["test_password"]},
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._out.exists() or self.report()["answered"] < self._rate:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the guests did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=40)

    def report(self) -> dict[str, Any]:
        """The counts so far, at most half a second old; whole once the guests have left."""
        return json.loads(self._out.read_text())

    def until_sent(self, count: int) -> None:
        """Waits until at least this many requests were sent."""
        while self.report()["sent"] < count:
            time.sleep(0.5)


def seconds_to_traffic_back(report: dict[str, Any], version: str) -> float | None:
    """From the first bad answer to the last request that a new connection brought to this version."""
    fresh = report["new_connections"].get(version)
    if not fresh or report["bad_first"] is None:
        return None
    return round(max(0.0, fresh["last_started"] - report["bad_first"]), 3)
