"""JSON over HTTP through an Airflow connection; whatever is not an answer is a `NoAnswer` that says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from handover.adapters.http import call
from handover.adapters.refusals import refused, spoken
from handover.models.json_text import decoded as value_of
from handover.readiness.check import TIMEOUT_SECONDS, NoAnswer

if TYPE_CHECKING:
    from requests import Response

MAX_PAGES = 30
PAGE = 100


class Missing(NoAnswer):
    """The source answers, but has no such thing (404)."""


def get(
    connection: str, path: str, params: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None,
    bearer: bool = True,
) -> Any:  # fmt: skip
    """The decoded answer. Raises `NoAnswer`, `Missing`, or `AirflowNotFoundException` without such a connection."""
    return decoded(response(connection, path, params, headers=headers, bearer=bearer), f"GET {path}")


def response(
    connection: str, path: str, params: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None,
    bearer: bool = True,
) -> Response:  # fmt: skip
    import requests

    query = f"?{urlencode(params)}" if params else ""
    try:
        return call(connection, "GET", f"{path}{query}", headers=headers, bearer=bearer, timeout=TIMEOUT_SECONDS)
    except requests.HTTPError as error:
        raise refusal(error.response, f"{connection}: GET {path}", connection) from None
    except requests.Timeout:
        raise NoAnswer(f"{connection}: GET {path}: no answer within {TIMEOUT_SECONDS:g} s") from None
    except requests.RequestException as error:
        raise NoAnswer(f"{connection}: GET {path}: {type(error).__name__}") from None


def refusal(answer: Response, what: str, connection: str) -> NoAnswer:
    """Why an answer of 400 or more is none, with the service's own words and without the connection's secrets."""
    from airflow.sdk import BaseHook

    where, status = BaseHook.get_connection(connection), answer.status_code
    said = spoken(answer.content, where.login or "", where.password or "", where.extra_dejson)
    why = f"{what}: {refused(status, answer.headers)}{f': {said}' if said else ''}"
    return (Missing if status == 404 else NoAnswer)(why)


def decoded(answer: Response, what: str) -> Any:
    try:
        return value_of(answer.content)
    except ValueError:
        raise NoAnswer(f"{what}: the answer is not JSON") from None


def items(
    connection: str, path: str, params: dict[str, Any] | None = None, *, within: str | None = None
) -> Iterator[dict[str, Any]]:
    """Every item of a list that comes in pages with a Link header, as GitHub gives it.

    :param within: the key of the list, where the answer is not the list itself
    """
    for page in range(1, MAX_PAGES + 1):
        answer = response(connection, path, {**(params or {}), "per_page": PAGE, "page": page})
        body = decoded(answer, f"GET {path}")
        yield from body[within] if within else body
        if "next" not in answer.links:
            return
    raise NoAnswer(f"{connection}: GET {path}: more than {MAX_PAGES * PAGE} items")
