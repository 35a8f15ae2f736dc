"""HTTP to services that say why they refuse: their words are kept, our credentials are not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from handover.adapters.http import request
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from requests import Response

WHERE = ("errorMessages", "errors", "error", "message")
"""Keys of a JSON answer that say what was wrong: Jira's, Statuspage's."""
MAX_WORDS = 500
REMAINING = "X-RateLimit-Remaining"


def call(connection_id: str, method: str, path: str, *, json: Any = None, timeout: float) -> Response:
    """Like `handover.adapters.http.call`, but a status of 400 or more raises `ServiceRefused`."""
    import requests
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    try:
        return request(connection, method, path, json=json, timeout=timeout)
    except requests.HTTPError as error:
        status, said = error.response.status_code, words(error.response, connection)
        raise ServiceRefused(f"{method} {path.partition('?')[0]}: {status} {said}", status) from None


def words(answer: Response, connection: Connection) -> str:
    """What the server says, else the name of its status."""
    text = "; ".join(said(answer.content)) or answer.reason
    login, password = connection.login or "", connection.password or ""
    if password:
        text = text.replace(password, "***")
        text = text.replace(base64.b64encode(f"{login}:{password}".encode()).decode(), "***")
    return text[:MAX_WORDS]


def said(text: bytes) -> Iterator[str]:
    """What was wrong, in the words of a JSON answer."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return
    for found in (body.get(key) for key in WHERE) if isinstance(body, dict) else ():
        if isinstance(found, dict):
            yield from (f"{field}: {text}" for field, text in found.items())
        elif isinstance(found, list):
            yield from (str(text) for text in found)
        elif found:
            yield str(found)


def refused(status: int, headers: Mapping[str, str]) -> str:
    """What a status of 300 or more means for who asked; a rate limit says when to try again."""
    if is_limited(status, headers):
        after = headers.get("Retry-After")
        return f"rate limit reached, try again {f'in {after} s' if after else 'later'}"
    if 300 <= status <= 399:
        return f"{status}, a redirect, which is not followed"
    if status == 404:
        return "404, there is none, or the credentials may not see it"
    if status in (401, 403):
        return f"{status}, the connection's credentials are refused"
    return f"status {status}"


def is_limited(status: int, headers: Mapping[str, str]) -> bool:
    """Whether it is too early to ask again; GitHub says so with 403."""
    return status == 429 or (status == 403 and ("Retry-After" in headers or headers.get(REMAINING) == "0"))
