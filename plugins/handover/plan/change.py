"""When something may be deployed: window, freezes and readiness of a plan, as sections of its file."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, StringConstraints, model_validator

from handover.plan.parts import Calendar, ChecklistFile, Seconds, Section

Override = Literal["readiness", "window", "freeze"]
"""What somebody may say does not count for a release: that it has to be ready, the deployment window, a freeze."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except Exception:
        raise ValueError(f"unknown time zone {name!r}") from None
    return name


def _quoted(value: Any) -> Any:
    """YAML makes the number 840 of an unquoted 14:00, which would be a time as well: 00:14."""
    if isinstance(value, (int, float)):
        raise ValueError('a time in quotes, "14:00"')
    return value


def _local(value: datetime.time) -> datetime.time:
    if value.tzinfo is not None:
        raise ValueError("a time of the window's own time zone (timezone), without an offset")
    return value


LocalTime = Annotated[datetime.time, BeforeValidator(_quoted), AfterValidator(_local)]


class WindowRules(Section):
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    opens: LocalTime
    closes: LocalTime
    timezone: Annotated[str, AfterValidator(_known_zone)]
    prepare_seconds: Seconds

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> WindowRules:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes")
        return self


class FrozenPeriod(Section):
    """Whole days, the last one included."""

    first: datetime.date
    last: datetime.date
    why: Annotated[str, StringConstraints(min_length=5)]

    @model_validator(mode="after")
    def _in_order(self) -> FrozenPeriod:
        if self.first > self.last:
            raise ValueError("first must not be after last")
        return self


class Freeze(Section):
    """When nothing is deployed, window or not; every event of the calendar is such a time."""

    periods: tuple[FrozenPeriod, ...] = ()
    calendar: Calendar | None = None


class ReadinessRules(Section):
    """How readiness is found out: from which checklist, how long before the window, and how long it counts."""

    checklist: ChecklistFile
    before_seconds: Seconds
    valid_seconds: Seconds
    response_seconds: Seconds


class OverrideRules(Section):
    """Which overrides take two people: who has started the run, and one of ``role`` (or of the role above it) who
    agrees within ``response_seconds``; no answer is a no.
    """

    second_person: frozenset[Override] = frozenset(get_args(Override))
    role: str = "lead"
    response_seconds: Seconds = 3600
