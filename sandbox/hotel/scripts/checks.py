"""What the test programs share: named checks, and an HTTP client that counts."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0


class Checks:
    """Runs named checks, prints one line for each, and knows how the program should exit."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._count = 0
        self._begin = time.monotonic()

    @contextlib.contextmanager
    def check(self, name: str) -> Iterator[None]:
        """A check fails with whatever its block raises; the next ones run all the same."""
        self._count += 1
        try:
            yield
        except Exception as error:
            self.failed.append(name)
            print(f"FAILED  {name}: {error or type(error).__name__}", flush=True)
        else:
            print(f"ok      {name}", flush=True)

    def exit_code(self) -> int:
        """Print the sum; 1 if a check failed or none ran."""
        seconds = time.monotonic() - self._begin
        print(f"{self._count - len(self.failed)} of {self._count} checks passed in {seconds:.2f} s", flush=True)
        return 1 if self.failed or not self._count else 0


def expect(condition: object, reason: str) -> None:
    """Fail the check with a reason (unlike assert, also under -O)."""
    if not condition:
        raise AssertionError(reason)


class Client:
    """JSON over HTTP; a connection per call, so that every call may meet another pod."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as http://host:8080")
        secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self.token = ""
        self.requests = 0

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Status and decoded answer; `token` replaces the client's own bearer token for this call."""
        headers = {"Connection": "close"}
        bearer = self.token if token is None else token
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        data = None
        if body is not None:
            data = json.dumps(body)
            headers["Content-Type"] = "application/json"
        self.requests += 1
        connection = self._connect(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, self._prefix + path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(content) if content else None
        except ValueError:
            return answer.status, content.decode(errors="replace")

    def want(self, status: int, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """The decoded answer of a call that must end with this status."""
        given, answer = self.call(method, path, body, token)
        expect(given == status, f"{method} {path.partition('?')[0]}: {given} instead of {status}")
        return answer
