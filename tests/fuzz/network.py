"""The other end of every request that goes by `requests`: answers that a property has drawn, and what was asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from hypothesis import strategies as st
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from tests.fuzz.strategies import ANYTHING, TEXT

ELSEWHERE = (
    "http://evil.example/",
    "https://evil.example/x",
    "//evil.example",
    "http://127.0.0.1:1/",
    "file:///etc/passwd",
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)  # what a client lets through


@dataclass(frozen=True)
class Said:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def to(self, request: PreparedRequest) -> Response:
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        raw = HTTPResponse(io.BytesIO(self.body), headers, self.status, preload_content=False, decode_content=False)
        answer = Response()
        answer.status_code, answer.headers, answer.raw = self.status, CaseInsensitiveDict(headers), raw
        answer.url, answer.request, answer.reason = request.url or "", request, "Said"
        return answer


def said(bodies: st.SearchStrategy[Any], headers: st.SearchStrategy[dict[str, str]]) -> st.SearchStrategy[Said]:
    """Bodies are values of JSON, or bytes as they are."""
    status = st.sampled_from([200, 200, 200, 201, 204, 301, 307, 400, 401, 403, 404, 405, 410, 429, 500, 503])
    return st.builds(Said, status, headers, bodies.map(_bytes))


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


BODIES = (
    st.binary(max_size=60)
    | ANYTHING
    | st.sampled_from([b"[" * 200_000, b"<html>Log in", b'{"a":' * 100_000, b"\xff\xfe{}"])
)
HEADERS = st.fixed_dictionaries({}, optional={
    "Content-Type": st.sampled_from(["application/json", "text/html; charset=nonsense", "text/plain"]) | HEADER,
    "Location": st.sampled_from(ELSEWHERE) | HEADER, "Retry-After": HEADER,
})  # fmt: skip
ANSWERS = said(BODIES, HEADERS)
__all__ = ["ANSWERS", "BODIES", "ELSEWHERE", "HEADER", "HEADERS", "TEXT", "Network", "Said", "network", "said"]


@dataclass
class Network:
    """``asked``: every request, in order."""

    asked: list[PreparedRequest] = field(default_factory=list)

    def hosts_with(self, *secrets: str) -> set[str]:
        """Who was told one of these, in an address, a header or a body."""
        return {
            urlsplit(one.url or "").hostname or ""
            for one in self.asked
            if any(secret in f"{one.url}{dict(one.headers)}{one.body!r}" for secret in secrets)
        }


@contextmanager
def network(answers: Sequence[Said], most: int = 100) -> Iterator[Network]:
    """Answers one after the other, and again from the first one. Nothing leaves this process.

    :param most: requests, of which no reader of answers should need more
    """
    found = Network()

    def send(_: HTTPAdapter, request: PreparedRequest, **__: Any) -> Response:
        assert len(found.asked) < most, "it never stops asking"
        found.asked.append(request)
        return answers[(len(found.asked) - 1) % len(answers)].to(request)

    with mock.patch.object(HTTPAdapter, "send", send):
        yield found
