"""The process that `up` leaves behind: it owns every other one, and removes everything when told to end.

Tells its progress as JSON lines on standard output, until it is up: {"component", "seconds", "warning"}, then
{"up": true} or {"error": text}.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from sandbox.kubernetes.description import Cluster
from sandbox.settings import SandboxError
from sandbox.stack import Progress, Sandbox

WATCH_SECONDS = 1.0
log = logging.getLogger("sandbox")


class _Stop(BaseException):
    """We were told to end."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Once is enough: the way down is not to be interrupted. A handler, for children would inherit SIG_IGN.
        signal.signal(number, lambda _signal, _frame: None)
    raise _Stop


def _tell(message: dict[str, Any]) -> None:
    """Nobody may listen any more: `up` can be interrupted."""
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:
        raise _Stop from None


def _fall_silent() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _watch(sandbox: Sandbox) -> None:
    """Until we are told to end; says in the log what has ended by itself."""
    ended: set[str] = set()
    while True:
        for process in sandbox.processes:
            if process.name not in ended and (code := process.exit_code()) is not None:
                ended.add(process.name)
                log.error("%s ended with code %s; its log: %s", process.name, code, process.log)
        time.sleep(WATCH_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--overlay", type=Path)
    parser.add_argument("--cluster", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--keep-logs", action="store_true")
    parser.add_argument("--only", nargs="+")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    telling = threading.Lock()

    def progress(step: Progress) -> None:
        with telling:
            _tell(asdict(step))

    sandbox = Sandbox(
        given.home,
        small=given.small,
        overlay=given.overlay,
        cluster=Cluster.read(given.cluster) if given.cluster else None,
        only=given.only,
        keep_logs=given.keep_logs,
        progress=progress,
    )
    try:
        sandbox.start()
        logging.basicConfig(
            filename=sandbox.settings.log("supervisor"), level=logging.INFO, format="%(asctime)s %(message)s"
        )
        _tell({"up": True})
        _fall_silent()
        _watch(sandbox)
    except SandboxError as error:
        _tell({"error": str(error)})
        return 1
    except _Stop:
        if sandbox.is_up:
            sandbox.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
