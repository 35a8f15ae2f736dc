"""Kills the sessions whose ids it was told, once whoever told it is gone. Standard library only, to start at once.

Reads `+<session>` and `-<session>` lines; the end of the input means that the writer has died. What a killed program
had started is found by its session, however deep it is; a parent-death signal would reach the first level only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

DEADLINE_SECONDS = 15


def _members(sessions: set[int]) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{int(entry)}/stat", encoding="utf-8", errors="replace") as file:
                state, _parent, _group, session = file.read().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state not in "ZX":
                found.append(int(entry))
    return found


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (members := _members(sessions)) and time.monotonic() < deadline:
        for pid in members:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
