"""The client of tasks that ask by `requests`: what we send is for the host that we send it to, and what is answered has
a limit in bytes and in seconds.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from handover import clock

MAX_ANSWER_BYTES = 2**24
"""Of the body of one answer, unpacked; a service that says more has given none."""
CHUNK_BYTES = 2**16
SAY_NOTHING = frozenset({"accept", "accept-encoding", "connection", "user-agent", "host"})
"""Headers that do not tell who asks."""


class Straight(requests.Session):
    """A redirect to another host is followed only by a request without a body, and without our headers; to whoever
    sends a body, our login say, it is the answer.
    """

    def __init__(self, limit: int = MAX_ANSWER_BYTES) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Bounded(limit))

    def request(self, *args: Any, **how: Any) -> requests.Response:
        """Raises `requests.RequestException`, also for an answer that cannot be read: its Location is no text, say."""
        try:
            return super().request(*args, **how)
        except requests.RequestException:
            raise
        except (ValueError, LookupError, TypeError, HTTPError) as error:
            raise requests.RequestException(f"an answer that cannot be read ({type(error).__name__})") from None

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and resp.request.method not in ("GET", "HEAD") and self._leaves(resp, urljoin(resp.url, target)):
            return None
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if self._leaves(response, prepared_request.url or ""):
            for name in [name for name in prepared_request.headers if name.lower() not in SAY_NOTHING]:
                del prepared_request.headers[name]

    def _leaves(self, response: requests.Response, to: str) -> bool:
        return bool(self.should_strip_auth(response.request.url or "", to))  # type: ignore[no-untyped-call]


class _Bounded(HTTPAdapter):
    """Reads every answer whole, before anybody sees it. Raises `requests.RequestException` for one that is too large,
    or not there within the request's timeout after it has begun.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def send(self, request: requests.PreparedRequest, *args: Any, **how: Any) -> requests.Response:
        answer = super().send(request, *args, **{**how, "stream": True})
        seconds, begun, found = how.get("timeout"), clock.monotonic(), bytearray()
        for part in answer.iter_content(CHUNK_BYTES):
            found += part
            if len(found) > self._limit:
                answer.close()
                raise requests.RequestException(f"the answer is larger than {self._limit} bytes", request=request)
            if isinstance(seconds, (int, float)) and clock.monotonic() - begun > seconds:
                answer.close()
                raise requests.ReadTimeout(f"the answer has no end after {seconds:g} s", request=request)
        answer._content = bytes(found)
        return answer
