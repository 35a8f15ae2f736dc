"""Runs the scenario of the plan's ``functional`` section: calls that build on each other's answers (plan 4.1).

Variables stand in braces. A value that is nothing but one variable keeps its type; elsewhere it becomes text. The
variable ``token``, once saved, is the bearer token of the calls that follow.
"""

from __future__ import annotations

import datetime
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.checks.client import TIMEOUT_SECONDS, Endpoint
from handover.models.annotations import AGENT
from handover.models.json_text import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from handover.plan.model import Functional, ScenarioStep
    from handover.plan.traffic import Origin

VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
TOKEN = "token"  # noqa: S105 - the name of a variable


class StepFailed(Exception):
    """A call was not answered as the scenario wants it."""


@dataclass(frozen=True)
class Done:
    """One call that went well, and its seconds."""

    name: str
    seconds: float


def substituted(value: Any, variables: Mapping[str, Any]) -> Any:
    """The value with its variables filled in, in lists and mappings too. Raises `KeyError` for an unknown one."""
    if isinstance(value, str):
        if whole := VARIABLE.fullmatch(value):
            return variables[whole[1]]
        return VARIABLE.sub(lambda found: str(variables[found[1]]), value)
    if isinstance(value, dict):
        return {key: substituted(inner, variables) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [substituted(inner, variables) for inner in value]
    return value


def picked(body: Any, path: str) -> Any:
    """The value at a path like ``id``, ``0.id`` or ``*.id``, where ``*`` is any item of a list.

    Raises `LookupError` when it is not there.
    """
    for part in path.split("."):
        if isinstance(body, list):
            body = secrets.choice(body) if part == "*" and body else body[int(part)] if part.isdecimal() else None
        elif isinstance(body, dict) and part in body:
            body = body[part]
        else:
            raise LookupError(f"the answer has no {path}")
    if body is None:
        raise LookupError(f"the answer has no {path}")
    return body


def beginnings(functional: Functional, api: Endpoint, today: datetime.date) -> dict[str, Any]:
    """The variables that every scenario begins with; the days differ from run to run, so that two do not collide.

    Raises `LoginFailed` for one with a test user that the connection does not have.
    """
    used = "".join(f"{step.path}{step.body}" for step in functional.steps)
    email, password = api.test_user if "{test_" in used else ("", "")
    day = today + datetime.timedelta(days=functional.days_ahead + secrets.randbelow(functional.days_span))
    return {
        "test_email": email,
        "test_password": password,
        "day": day.isoformat(),
        "next_day": (day + datetime.timedelta(days=1)).isoformat(),
    }


class Scenario:
    """One run against one endpoint. ``origin``: where every answer says its version, None where they do not;
    ``wanted``: what it has to be, see `Plan.said_by`.
    """

    def __init__(
        self, http: requests.Session, api: Endpoint, variables: dict[str, Any], origin: Origin | None, wanted: str
    ) -> None:
        self._http, self._api, self._variables = http, api, variables
        self._origin, self._wanted = origin, wanted

    def call(self, step: ScenarioStep) -> Done:
        """Makes one call and keeps what it asks to save. Raises `StepFailed`."""
        import requests

        headers = {"User-Agent": AGENT, "Cache-Control": "no-cache"}
        if TOKEN in self._variables:
            headers["Authorization"] = f"Bearer {self._variables[TOKEN]}"
        path = substituted(step.path, self._variables)
        body = substituted(step.body, self._variables)
        begun = clock.monotonic()
        try:
            answer = self._http.request(
                step.method, f"{self._api.url}{path}", json=body, headers=headers, timeout=TIMEOUT_SECONDS
            )
        except requests.RequestException as error:
            raise StepFailed(f"{step.name}: {step.method} {path}: {type(error).__name__}") from None
        seconds = clock.monotonic() - begun
        self._check(step, path, answer)
        return Done(step.name, seconds)

    def _check(self, step: ScenarioStep, path: str, answer: requests.Response) -> None:
        where = f"{step.name}: {step.method} {path}"
        if answer.status_code != step.expect:
            raise StepFailed(f"{where}: {answer.status_code} instead of {step.expect}: {self._redacted(answer.text)}")
        seen = self._origin.said(answer.headers, "") if self._origin else ""
        if self._origin and not self._origin.is_from(seen, self._wanted):
            raise StepFailed(f"{where}: answered by {seen or 'an unnamed version'} instead of {self._wanted}")
        try:
            body = decoded(answer.content) if step.save else None
            saved = {name: picked(body, source) for name, source in step.save.items()}
        except (LookupError, ValueError) as error:
            raise StepFailed(f"{where}: {error}") from None
        self._variables.update(saved)

    def _redacted(self, text: str) -> str:
        """The text of an answer for people to read: short, and without the secrets that were sent."""
        for secret in (self._variables["test_password"], self._variables.get(TOKEN)):
            text = text.replace(str(secret), "***") if secret else text
        return text[:200]
