"""Starts programs, watches them and makes sure that they end: with us, at the latest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from sandbox.settings import REPOSITORY, SandboxError

POLL_SECONDS = 0.05
LOG_LINES = 15


class Process:
    """One program in a session of its own, so that all it starts in turn can be told by that session's id."""

    def __init__(
        self, name: str, argv: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM, stdin: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        self._asked = False
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [str(part) for part in argv], env=None if env is None else dict(env), cwd=REPOSITORY,
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.pid = self._popen.pid
        _guardian.watch(self.pid)
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended without reading; its exit code tells why
            self._popen.stdin.write(stdin.encode())
            self._popen.stdin.close()

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def check(self) -> None:
        """Raises SandboxError, with the end of its log, when it has ended."""
        code = self.exit_code()
        if code is not None:
            raise SandboxError(f"{self.name} ended with code {code}.{log_end(self.log)}")

    def wait(self) -> int:
        return self._popen.wait()

    def ask_to_end(self) -> None:
        """Once: a second signal would cut an orderly end short."""
        if self.exit_code() is None and not self._asked:
            self._asked = True
            self._popen.send_signal(self._stop_signal)

    def stop(self, grace_seconds: float = 15.0) -> None:
        """Ask it to end, then end what is left of its session."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_seconds)
        kill_sessions([self.pid])
        self._popen.wait()
        _guardian.forget(self.pid)


def log_end(log: Path) -> str:
    """The last lines of a log, introduced, for an error message."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        if lines:
            return f" Its log ends ({log}):\n  " + "\n  ".join(lines)
    return ""


def run(
    argv: Sequence[str | Path], *, what: str, log: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> None:
    """Run a program to its end; raises SandboxError with the end of its log when it fails."""
    process = Process(what, argv, log, env=env, stdin=stdin)
    try:
        code = process.wait()
    finally:
        process.stop()
    if code:
        raise SandboxError(f"{what} failed with code {code}.{log_end(log)}")


def session_members(sessions: Iterable[int]) -> list[psutil.Process]:
    """Every live process of these sessions; a session's id is the pid of the process that opened it."""
    wanted = set(sessions)
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) in wanted:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def kill_sessions(sessions: Iterable[int]) -> None:
    """Kill until nothing of these sessions is left: a process may fork while we look."""
    sessions = list(sessions)
    deadline = time.monotonic() + 10
    while (members := session_members(sessions)) and time.monotonic() < deadline:
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_SECONDS)


def alive(pid: int, created: float) -> bool:
    """Whether this very process still runs, and not another that was given its number."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    return False


class Guardian:
    """A process that outlives ours for a moment: if we die without a word, it kills what we started."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self, session: int) -> None:
        self._tell(b"+%d\n" % session)

    def forget(self, session: int) -> None:
        self._tell(b"-%d\n" % session)

    def _tell(self, line: bytes) -> None:
        with self._lock:
            if self._popen is None or self._popen.poll() is not None:
                script = Path(__file__).with_name("guardian.py")
                self._popen = subprocess.Popen(
                    [sys.executable, "-I", "-S", script], stdin=subprocess.PIPE, start_new_session=True,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            assert self._popen.stdin is not None
            self._popen.stdin.write(line)
            self._popen.stdin.flush()


_guardian = Guardian()
"""One a process, started with the first child; it ends by itself when we do."""
