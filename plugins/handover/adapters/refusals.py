"""HTTP to services that say why they refuse: their words are kept, our credentials are not."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from handover.adapters.http import request
from handover.models.json_text import decoded
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from requests import Response

WHERE = (
    "errorMessages", "errors", "error", "error_description", "message", "detail", "title", "reason", "warningMessages",
)  # fmt: skip
"""Keys of a JSON answer that say what was wrong: Jira's, Statuspage's, Sentry's, Grafana's, those of RFC 9457."""
MAX_WORDS = 500
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
REMAINING = "X-RateLimit-Remaining"


def call(
    connection_id: str, method: str, path: str, *, headers: dict[str, str] | None = None, json: Any = None,
    timeout: float = 10.0,
) -> Response:  # fmt: skip
    """Like `handover.adapters.http.call`, but a status of 400 or more raises `ServiceRefused`."""
    import requests
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    try:
        return request(connection, method, path, headers=headers, json=json, timeout=timeout)
    except requests.HTTPError as error:
        status, said = error.response.status_code, words(error.response, connection)
        raise ServiceRefused(f"{method} {path.partition('?')[0]}: {status} {said}", status) from None


def asked(connection_id: str, method: str, path: str, *, json: Any = None, timeout: float) -> Any:
    """What `call` is answered, decoded: None for an empty answer. What is not JSON, a login page say, is a refusal."""
    answer = call(connection_id, method, path, json=json, timeout=timeout)
    if not answer.content:
        return None
    try:
        return decoded(answer.content)
    except ValueError:
        kind = answer.headers.get("Content-Type", "of no type").partition(";")[0][:40]
        what = f"{method} {path.partition('?')[0]}: {answer.status_code}"
        raise ServiceRefused(f"{what}, the answer is not JSON ({kind})", answer.status_code) from None


def named(said: Any, what: str) -> str:
    """A name that a service has given to a thing of its own, for the path of the next request. Raises `ServiceRefused`
    for what is none: with it an answer could choose what else is changed.
    """
    if not isinstance(said, str) or not NAME.fullmatch(said):
        raise ServiceRefused(f"the answer has {what} with a name that is none")
    return said


def words(answer: Response, connection: Connection) -> str:
    """What the server says, else the name of its status."""
    found = spoken(answer.content, connection.login or "", connection.password or "", connection.extra_dejson)
    return found or answer.reason or "without a word"


def spoken(content: bytes, login: str = "", password: str = "", extra: Mapping[str, Any] | None = None) -> str:
    """What an answer says was wrong, on one line, short and without our secrets; empty when it says nothing."""
    return hidden(" ".join("; ".join(said(content)).split()), login, password, extra or {})[:MAX_WORDS]


def hidden(text: str, login: str, password: str, extra: Mapping[str, Any]) -> str:
    """The text without our secrets, in every form in which we send them: a service may say what it was sent."""
    secrets = {password, *_texts(extra)}
    forms = {form for secret in secrets if secret.strip() for form in _forms(secret)}
    if password:
        for encoding in ("utf-8", "latin-1"):
            basic = f"{login}:{password}".encode(encoding, "ignore")
            forms.add(base64.b64encode(basic).decode())
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in a connection's extra, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _forms(secret: str) -> tuple[str, ...]:
    """As it may come back: as it is, in an address, in a form, in JSON, or on one line."""
    return (
        secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], " ".join(secret.split()),
    )  # fmt: skip


def said(content: bytes) -> Iterator[str]:
    """What was wrong, in the words of an answer: those of JSON, or a text that is no page."""
    try:
        body = decoded(content)
    except ValueError:
        text = content.decode("utf-8", "replace").strip()
        if text and "<" not in text and text[0] not in "{[":
            yield text
        return
    yield from _said(body if isinstance(body, dict) else {})


def _said(body: Mapping[str, Any]) -> Iterator[str]:
    for key in WHERE:
        found = body.get(key)
        if isinstance(found, dict):
            yield from _said(found) if any(one in found for one in WHERE) else map(": ".join, _pairs(found))
        elif isinstance(found, list):
            for one in found:
                yield from _said(one) if isinstance(one, dict) else [str(one)]
        elif found and not isinstance(found, bool):
            yield str(found)


def _pairs(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields, and what is wrong with each: Jira's."""
    for field, text in found.items():
        yield field, "; ".join(map(str, text)) if isinstance(text, list) else str(text)


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
