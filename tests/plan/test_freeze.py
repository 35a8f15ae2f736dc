"""When nothing may be deployed, by the plan's dates and by a calendar."""

from __future__ import annotations

import datetime

import pytest

from handover.plan.change import Freeze, FrozenPeriod
from handover.plan.freeze import BrokenCalendar, frozen, spans
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE

ADVENT = FrozenPeriod(first=datetime.date(2026, 12, 24), last=datetime.date(2026, 12, 26), why="the hotels are full")
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
{events}
END:VCALENDAR
"""
EVENT = "BEGIN:VEVENT\nUID:{uid}\nDTSTAMP:20260101T000000Z\n{when}\nSUMMARY:{why}\nEND:VEVENT"


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.fixture
def calendar(tmp_path, monkeypatch):
    """Writes a calendar of such events and gives the freeze that reads it."""
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    (tmp_path / "calendars").mkdir()

    def write(*events: str, whole: str = CALENDAR) -> Freeze:
        (tmp_path / "calendars" / "c.ics").write_text(whole.format(events="\n".join(events)).replace("\n", "\r\n"))
        return Freeze.model_construct(periods=(), calendar="c.ics")

    return write


@pytest.mark.parametrize(
    ("now", "is_frozen"),
    [("2026-12-23T23:59", False), ("2026-12-24T00:00", True), ("2026-12-26T23:59", True), ("2026-12-27T00:00", False)],
)
def test_a_period_covers_whole_days_the_last_one_too(now, is_frozen):
    assert bool(frozen(Freeze(periods=(ADVENT,)), "UTC", at(now))) is is_frozen


def test_a_period_is_in_the_plans_time_zone():
    assert frozen(Freeze(periods=(ADVENT,)), "Asia/Tokyo", at("2026-12-23T16:00")) is not None
    assert frozen(Freeze(periods=(ADVENT,)), "America/New_York", at("2026-12-24T03:00")) is None


def test_the_reason_says_what_and_until_when():
    assert frozen(Freeze(periods=(ADVENT,)), "UTC", at("2026-12-25T12:00")) == (
        "the hotels are full (until Saturday 2026-12-26)"
    )


def test_a_recurring_event_freezes_every_time(calendar):
    when = "DTSTART:20260106T140000Z\nDTEND:20260106T160000Z\nRRULE:FREQ=WEEKLY;COUNT=60"
    found = calendar(EVENT.format(uid=1, when=when, why="billing run"))
    assert "billing run" in (frozen(found, "UTC", at("2026-11-24T15:00")) or "")
    assert frozen(found, "UTC", at("2026-11-24T16:30")) is None
    assert frozen(found, "UTC", at("2026-11-25T15:00")) is None


def test_an_event_of_whole_days_ends_with_its_last_day(calendar):
    found = calendar(EVENT.format(uid=1, when="DTSTART;VALUE=DATE:20261218\nDTEND;VALUE=DATE:20261221", why="audit"))
    assert frozen(found, "UTC", at("2026-12-20T23:00")) == "audit (calendar c.ics, until Sunday 2026-12-20)"
    assert frozen(found, "UTC", at("2026-12-21T00:00")) is None


@pytest.mark.parametrize("broken", ["", "hello", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:tomorrow\nEND:VEVENT"])
def test_a_calendar_that_cannot_be_read_is_no_calendar_without_events(calendar, broken):
    with pytest.raises(BrokenCalendar, match=r"c\.ics"):
        frozen(calendar(whole=broken), "UTC", at("2026-12-20T23:00"))


def test_a_calendar_that_is_gone_is_an_error(calendar, tmp_path):
    found = calendar()
    (tmp_path / "calendars" / "c.ics").unlink()
    with pytest.raises(BrokenCalendar, match="FileNotFoundError"):
        frozen(found, "UTC", at("2026-12-20T23:00"))


def test_the_plans_own_calendar_freezes_the_end_of_every_year():
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    for year in (2026, 2031):
        assert "freeze" in (frozen(plan.freeze, "UTC", at(f"{year}-12-29T15:00")) or "")
        assert frozen(plan.freeze, "UTC", at(f"{year}-11-24T15:00")) is None


def test_freezes_that_lie_ahead_are_told_with_both_ends_in_the_plans_time_zone(calendar):
    whole = EVENT.format(uid="1", when="DTSTART;VALUE=DATE:20261218\nDTEND;VALUE=DATE:20261221", why="year end")
    often = EVENT.format(uid="2", when="DTSTART:20261201T100000\nDTEND:20261201T120000\nRRULE:FREQ=WEEKLY", why="")
    freeze = calendar(whole, often).model_copy(update={"periods": (ADVENT,)})
    found = spans(freeze, "Europe/Berlin", at("2026-12-08T10:30"), at("2026-12-24T12:00"))
    assert [(f"{one.starts:%d %H:%M %z}", f"{one.ends:%d %H:%M}", one.why) for one in found] == [
        ("08 10:00 +0100", "08 12:00", "an event without a summary"),
        ("15 10:00 +0100", "15 12:00", "an event without a summary"),
        ("18 00:00 +0100", "21 00:00", "year end"),
        ("22 10:00 +0100", "22 12:00", "an event without a summary"),
        ("24 00:00 +0100", "27 00:00", "the hotels are full"),
    ]


def test_freezes_of_a_calendar_that_is_broken_are_not_told_as_none(calendar):
    with pytest.raises(BrokenCalendar, match=r"c\.ics"):
        spans(calendar(whole="no calendar"), "UTC", at("2026-12-08"), at("2026-12-24"))


DAILY = "DTSTART:20261201T100000Z\nDTEND:20261201T120000Z\nRRULE:FREQ=DAILY"
CHRISTMAS = "DTSTART;VALUE=DATE:20261224"
ONE_DAY = "RECURRENCE-ID:20261224T100000Z\nDTSTART:20261224T100000Z\nDTEND:20261224T120000Z\nSTATUS:CANCELLED"


@pytest.mark.parametrize(("events", "is_frozen"), [
    ([f"{CHRISTMAS}\nSTATUS:CANCELLED"], False), ([f"{CHRISTMAS}\nSTATUS:cancelled"], False),
    ([f"{CHRISTMAS}\nSTATUS:CONFIRMED"], True), ([f"{CHRISTMAS}\nSTATUS:TENTATIVE"], True),
    ([DAILY], True), ([DAILY, ONE_DAY], False), ([f"{CHRISTMAS}\nSTATUS:CANCELLED", f"{CHRISTMAS}"], True),
], ids=["cancelled", "small", "confirmed", "tentative", "daily", "one_of_the_daily", "beside_another"])  # fmt: skip
def test_an_event_that_was_cancelled_freezes_nothing(calendar, events, is_frozen):
    uids = ["1"] * len(events) if DAILY in events else [str(number) for number in range(len(events))]
    found = calendar(*(EVENT.format(uid=uid, when=when, why="x") for uid, when in zip(uids, events, strict=True)))
    assert bool(frozen(found, "UTC", at("2026-12-24T11:00"))) is is_frozen
    assert bool(spans(found, "UTC", at("2026-12-24T10:30"), at("2026-12-24T11:00"))) is is_frozen


def test_a_whole_day_that_ends_when_it_begins_is_that_day(calendar):
    found = calendar(EVENT.format(uid=1, when=f"{CHRISTMAS}\nDTEND;VALUE=DATE:20261224", why="full"))
    assert frozen(found, "UTC", at("2026-12-24T12:00")) == "full (calendar c.ics, until Thursday 2026-12-24)"
    assert frozen(found, "UTC", at("2026-12-25T12:00")) is None


@pytest.mark.parametrize("when", [
    "DTSTART;TZID=Foo/Bar:20261224T110000", "DTSTART:20261224T100000Z\nDTEND;TZID=Foo/Bar:20261224T110000",
    f"{DAILY}\nEXDATE;TZID=Foo/Bar:20261224T100000", "DTSTART:20251224T100000Z\nRDATE;TZID=Foo/Bar:20261224T100000",
], ids=["start", "end", "left_out", "besides"])  # fmt: skip
def test_hours_of_a_time_zone_that_nobody_knows_are_not_taken_for_the_plans(calendar, when):
    with pytest.raises(BrokenCalendar, match="'full' has the unknown time zone 'Foo/Bar': write one such as"):
        frozen(calendar(EVENT.format(uid=1, when=when, why="full")), "UTC", at("2026-12-24T12:00"))


@pytest.mark.parametrize(("when", "end"), [
    ("DTSTART:20261224T090000Z\nDTEND:20261224T120000Z", "13:00 CET"),
    ("DTSTART;TZID=America/New_York:20261224T050000\nDTEND;TZID=America/New_York:20261224T070000", "13:00 CET"),
    ("DTSTART;TZID=Central European Standard Time:20261224T110000\nDURATION:PT2H", "13:00 CET"),
    ("DTSTART:20261224T110000\nDTEND:20261224T130000", "13:00 CET"),
], ids=["utc", "another_zone", "outlook", "floating"])  # fmt: skip
def test_the_end_is_told_in_the_plans_time_zone_with_its_name(calendar, when, end):
    found = calendar(EVENT.format(uid=1, when=when, why="full"))
    assert frozen(found, "Europe/Prague", at("2026-12-24T10:30")) == (
        f"full (calendar c.ics, until Thursday 2026-12-24 {end})"
    )
    (span,) = spans(found, "Europe/Prague", at("2026-12-24T10:30"), at("2026-12-24T11:00"))
    assert f"{span.ends:%H:%M %Z}" == end
