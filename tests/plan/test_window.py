"""The weekly window in which traffic may move."""

from __future__ import annotations

import datetime

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from handover.plan import window
from handover.plan.change import WindowRules
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE

WINDOW = load_plan(INCLUDE / "plans" / "pms.yaml").window


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.mark.plan("Day: Tuesday (mid-week, avoiding weekends)", "Time: 2:00 PM - 6:00 PM UTC")
@pytest.mark.parametrize(
    ("now", "opens", "is_open", "may_start"),
    [
        ("2026-11-24 11:59", "2026-11-24 14:00", False, False),
        ("2026-11-24 12:00", "2026-11-24 14:00", False, True),
        ("2026-11-24 13:59", "2026-11-24 14:00", False, True),
        ("2026-11-24 14:00", "2026-11-24 14:00", True, True),
        ("2026-11-24 17:59", "2026-11-24 14:00", True, True),
        ("2026-11-24 18:00", "2026-12-01 14:00", False, False),
        ("2026-11-22 12:00", "2026-11-24 14:00", False, False),
    ],
)
def test_opening(now, opens, is_open, may_start):
    assert window.opening(WINDOW, at(now)) == at(opens)
    assert window.is_open(WINDOW, at(now)) is is_open
    assert window.may_start(WINDOW, at(now)) is may_start


def test_phase_1_starts_two_hours_before_the_window_opens():
    assert window.start_cron(WINDOW) == "0 12 * * 2"


def test_a_local_window_follows_daylight_saving():
    berlin = WINDOW.model_copy(update={"timezone": "Europe/Berlin"})
    assert window.opening(berlin, at("2026-07-07 00:00")) == at("2026-07-07 12:00")
    assert window.opening(berlin, at("2026-12-01 00:00")) == at("2026-12-01 13:00")


@given(st.sampled_from(window.DAYS), st.integers(0, 22), st.integers(60, 86_400), st.datetimes(
    datetime.datetime(2020, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(datetime.UTC)))  # fmt: skip
def test_a_run_started_by_the_schedule_may_always_start(day, hour, prepare, now):
    w = WindowRules(
        weekday=day, opens=datetime.time(hour), closes=datetime.time(hour + 1), timezone="UTC",
        prepare_seconds=prepare // 60 * 60,
    )  # fmt: skip
    start = croniter(window.start_cron(w), now).get_next(datetime.datetime)
    assert window.may_start(w, start)
    assert window.opening(w, start) - start == datetime.timedelta(seconds=w.prepare_seconds)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-24 13:59", "2026-11-24 14:00"),
        ("2026-11-24 14:00", "2026-12-01 14:00"),
        ("2026-11-24 17:59", "2026-12-01 14:00"),
        ("2026-11-24 18:00", "2026-12-01 14:00"),
    ],
)
def test_a_window_that_is_open_is_not_the_upcoming_one(now, opens):
    assert window.upcoming(WINDOW, at(now)) == at(opens)


@given(st.sampled_from(window.DAYS), st.integers(0, 22), st.integers(1, 604_800), st.datetimes(
    datetime.datetime(2020, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(datetime.UTC)))  # fmt: skip
def test_the_window_that_a_schedule_means_is_the_one_so_long_after_it(day, hour, before, now):
    w = WindowRules(
        weekday=day, opens=datetime.time(hour), closes=datetime.time(hour + 1), timezone="UTC", prepare_seconds=7200
    )
    moment = croniter(window.cron_before(w, before), now).get_next(datetime.datetime)
    ahead = (window.announced(w, moment, before) - moment).total_seconds()
    assert before <= ahead < before + 60


def test_the_announced_window_stands_when_the_clocks_change():
    berlin = WINDOW.model_copy(update={"timezone": "Europe/Berlin"})
    for moment, opens in (("2026-10-20 12:00", "2026-10-27 13:00"), ("2027-03-23 13:00", "2027-03-30 12:00")):
        assert window.announced(berlin, at(moment), 604_800) == at(opens)


def test_the_length_of_the_window():
    assert window.length(WINDOW) == 4 * 3600
