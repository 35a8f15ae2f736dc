"""Waiting for a service to be ready."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import httpx

from sandbox.processes import POLL_SECONDS, Process
from sandbox.settings import SandboxError

READY_SECONDS = 120


def until_listening(host: str, port: int, process: Process) -> None:
    """Until a TCP connection is taken."""

    def connects() -> bool:
        with socket.create_connection((host, port), timeout=2):
            return True

    _until(connects, f"{host}:{port}", process)


def until_answering(url: str, process: Process) -> None:
    """Until an answer below 500 comes."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        _until(lambda: client.get(url).status_code < httpx.codes.INTERNAL_SERVER_ERROR, url, process)


def _until(ready: Callable[[], bool], what: str, process: Process) -> None:
    """Raises SandboxError when the process has ended or stays silent."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        process.check()
        try:
            if ready():
                return
        except (OSError, httpx.HTTPError):
            pass
        if time.monotonic() > deadline:
            raise SandboxError(f"{process.name} does not answer on {what} after {READY_SECONDS} s")
        time.sleep(POLL_SECONDS)
