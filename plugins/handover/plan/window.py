"""When traffic may move: the weekly window of the plan. Pure functions; the time is always given."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from handover.plan.change import WindowRules

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def opening(window: WindowRules, now: datetime.datetime) -> datetime.datetime:
    """When the window that is open now opened, or else when the next one opens; ``now`` must be aware."""
    local = now.astimezone(ZoneInfo(window.timezone))
    day = local.date() + datetime.timedelta(days=(DAYS.index(window.weekday) - local.weekday()) % 7)
    if day == local.date() and local.time() >= window.closes:
        day += datetime.timedelta(days=7)
    return datetime.datetime.combine(day, window.opens, ZoneInfo(window.timezone))


def upcoming(window: WindowRules, now: datetime.datetime) -> datetime.datetime:
    """When the next window opens; one that is open now does not count."""
    found = opening(window, now)
    return found if found > now else opening(window, now + datetime.timedelta(days=1))


def announced(window: WindowRules, moment: datetime.datetime, seconds: float) -> datetime.datetime:
    """The opening that ``moment`` lies so long before, when `cron_before` has named that moment. An hour of daylight
    saving in between, and the seconds that cron does not know, move neither day nor opening.
    """
    meant = moment + datetime.timedelta(seconds=seconds) - datetime.timedelta(hours=2)
    return upcoming(window, meant)


def length(window: WindowRules) -> float:
    """Of a window, in seconds."""
    day = datetime.date(2024, 1, 1)
    start, end = (datetime.datetime.combine(day, at) for at in (window.opens, window.closes))
    return (end - start).total_seconds()


def is_open(window: WindowRules, now: datetime.datetime) -> bool:
    return opening(window, now) <= now


def may_start(window: WindowRules, now: datetime.datetime) -> bool:
    """Whether Phase 1 may begin: the window is open or opens within ``prepare_seconds``."""
    return opening(window, now) - now <= datetime.timedelta(seconds=window.prepare_seconds)


def start_cron(window: WindowRules) -> str:
    """Cron expression of the start of Phase 1, ``prepare_seconds`` before the window opens."""
    return cron_before(window, window.prepare_seconds)


def cron_before(window: WindowRules, seconds: float) -> str:
    """Cron expression of the moment that lies so long before the window opens."""
    monday = datetime.datetime(2024, 1, 1) + datetime.timedelta(days=DAYS.index(window.weekday))
    start = datetime.datetime.combine(monday, window.opens) - datetime.timedelta(seconds=seconds)
    return f"{start.minute} {start.hour} * * {(start.weekday() + 1) % 7}"
