"""Counts what the guests met, cheaply enough to count everything."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

KINDS = ("refused", "reset", "cut", "timeout", "other")
KEPT_SECONDS = 600
"""Seconds of the timeline in a summary written on the way; the last summary has all."""

_FIRST = 1e-4
_STEP = math.log(1.02)


class Latencies:
    """A histogram whose buckets grow by 2 %: percentiles within 2 % at any number of values, in little memory."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.highest = 0.0
        """Seconds."""

    def add(self, seconds: float) -> None:
        self._counts[int(math.log(seconds / _FIRST) / _STEP) if seconds > _FIRST else 0] += 1
        self.highest = max(self.highest, seconds)

    def percentile(self, share: float) -> float | None:
        """Seconds below which this share of the answers came; None without answers."""
        wanted = share * self._counts.total()
        passed = 0
        for bucket in sorted(self._counts):
            passed += self._counts[bucket]
            if passed >= wanted:
                return min(_FIRST * math.exp((bucket + 0.5) * _STEP), self.highest)
        return None


class _Second:
    """What was counted in one second of the wall clock."""

    __slots__ = ("bad", "failed", "sent", "versions")

    def __init__(self) -> None:
        self.sent = self.failed = self.bad = 0
        self.versions: dict[str, int] = {}


class Tally:
    """All counts of one run. Times are Unix time in seconds."""

    def __init__(self, events: Path | None = None, answers: Path | None = None) -> None:
        self.began = time.time()
        self.sent = 0
        self.answered = 0
        self.reopened = 0
        """Keep-alive connections the server had closed between two requests: allowed, so not a failure."""
        self.overload = 0
        """Requests not sent because too many were waiting for an answer: the schedule was not kept."""
        self.streams = {"opened": 0, "ended": 0}
        self.sockets = {"opened": 0, "closed": 0}
        self._failed: Counter[str] = Counter()
        self._failed_times: list[float] = []
        self._bad: Counter[str] = Counter()
        self._bad_times: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._versions: Counter[str] = Counter()
        self._fresh: dict[str, dict[str, float]] = {}
        self._latencies = Latencies()
        self._seconds: dict[int, _Second] = {}
        self._events: TextIO | None = events.open("a", buffering=1) if events else None
        self._answers: TextIO | None = answers.open("a") if answers else None

    def _second(self, at: float) -> _Second:
        key = int(at)
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = _Second()
        return found

    def send(self) -> None:
        """A request goes out."""
        self.sent += 1
        self._second(time.time()).sent += 1

    def answer(self, status: int, version: str, path: str, began: float, *, fresh: bool, timed: bool = True) -> None:
        """An answer has come; `fresh` if its connection was new, `timed` if its latency counts."""
        now = time.time()
        self.answered += 1
        self._statuses[status] += 1
        self._versions[version] += 1
        second = self._second(now)
        second.versions[version] = second.versions.get(version, 0) + 1
        if self._answers is not None and timed:
            self._answers.write(f"{began:.4f} {version} {fresh:d}\n")
        if timed:
            self._latencies.add(max(now - began, 0.0))
        if fresh:
            seen = self._fresh.setdefault(version, {"first_answered": now, "last_started": began})
            seen["last_answered"] = now
            seen["last_started"] = max(seen["last_started"], began)
        if status >= 500:
            second.bad += 1
            self._bad[version] += 1
            self._bad_times = [*self._bad_times[:1], now]
            self._note(now, {"status": status, "version": version}, path, began, fresh)

    def fail(self, kind: str, path: str, began: float, *, fresh: bool) -> None:
        """A request got no whole answer."""
        now = time.time()
        self._failed[kind] += 1
        self._failed_times = [*self._failed_times[:1], now]
        self._second(now).failed += 1
        self._note(now, {"kind": kind}, path, began, fresh)

    def _note(self, now: float, what: dict[str, Any], path: str, began: float, fresh: bool) -> None:
        if self._events is not None:
            event = {"at": round(now, 3), **what, "path": path, "seconds": round(now - began, 3), "fresh": fresh}
            self._events.write(json.dumps(event) + "\n")

    @property
    def failed(self) -> int:
        return self._failed.total()

    def summary(self, *, whole: bool = True) -> dict[str, Any]:
        """Everything as JSON; without `whole`, only the last seconds of the timeline."""
        now = time.time()
        percentiles = {name: self._latencies.percentile(share) for name, share in _SHARES.items()}
        timeline = [
            [at, one.sent, one.failed, one.bad, one.versions]
            for at, one in self._seconds.items()
            if whole or at > now - KEPT_SECONDS
        ]
        return {
            "began": round(self.began, 3),
            "at": round(now, 3),
            "seconds": round(now - self.began, 3),
            "sent": self.sent,
            "answered": self.answered,
            "waiting": self.sent - self.answered - self.failed,
            "failed": self.failed,
            "failed_by_kind": {kind: self._failed[kind] for kind in KINDS},
            **_span("failed", self._failed_times),
            "bad_answers": self._bad.total(),
            "bad_by_version": dict(self._bad),
            **_span("bad", self._bad_times),
            "statuses": {str(code): count for code, count in sorted(self._statuses.items())},
            "by_version": dict(self._versions),
            "new_connections": {
                version: {name: round(at, 3) for name, at in seen.items()} for version, seen in self._fresh.items()
            },
            "reopened": self.reopened,
            "overload": self.overload,
            "streams": dict(self.streams),
            "sockets": dict(self.sockets),
            "latency_ms": {name: _ms(value) for name, value in percentiles.items()}
            | {"max": _ms(self._latencies.highest)},
            "timeline": timeline,
        }

    def write(self, path: Path, *, whole: bool = True) -> None:
        """Write the summary so that a reader never sees half of it."""
        draft = path.with_name(path.name + ".new")
        draft.write_text(json.dumps(self.summary(whole=whole)) + "\n")
        os.replace(draft, path)

    def close(self) -> None:
        for file in (self._events, self._answers):
            if file is not None:
                file.close()


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _span(name: str, times: list[float]) -> dict[str, float | None]:
    """First and last time, and the seconds between."""
    if not times:
        return {f"{name}_first": None, f"{name}_last": None, f"{name}_seconds": 0.0}
    first, last = times[0], times[-1]
    return {
        f"{name}_first": round(first, 3),
        f"{name}_last": round(last, 3),
        f"{name}_seconds": round(last - first, 3),
    }
