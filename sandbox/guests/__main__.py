"""`python -m sandbox.guests --url URL --out FILE`: guests until SIGTERM, or for `--duration` seconds."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sandbox.guests.crowd import Crowd


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.guests", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second (150)")
    parser.add_argument("--out", type=Path, help="JSON summary, written every half second")
    parser.add_argument("--events", type=Path, help="JSON lines, one for each failure and each answer >= 500")
    parser.add_argument(
        "--answers", type=Path, help="a line for each answer: time sent, version, 1 if on a new connection"
    )
    parser.add_argument("--duration", type=float, help="seconds; without it until SIGTERM")
    parser.add_argument("--email", default=os.environ.get("GUESTS_EMAIL"), help="or GUESTS_EMAIL")
    parser.add_argument("--password", default=os.environ.get("GUESTS_PASSWORD"), help="or GUESTS_PASSWORD")
    parser.add_argument("--no-stream", action="store_true", help="hold neither a stream of events nor a WebSocket")
    given = parser.parse_args()
    if given.rate <= 0:
        parser.error("--rate must be above 0")
    return given


def _runner() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """uvloop's `run` where it is installed: half of the processor time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _main(given: argparse.Namespace) -> dict[str, Any]:
    crowd = Crowd(
        given.url, given.rate, email=given.email, password=given.password,
        out=given.out, events=given.events, answers=given.answers,
        stream=not given.no_stream, socket=not given.no_stream,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, crowd.stop)
    return await crowd.run(given.duration)


def main() -> None:
    result = _runner()(_main(_arguments()))
    counts = {name: result[name] for name in ("sent", "failed", "bad_answers", "by_version")}
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
