"""Looking around in the ledger: each measure once, each point of a plot once, and what is new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.models.record import Change, IncidentEntry, Outcome, Sample
from handover.record.browse import POINTS, SECONDS, STRETCHES, Browser, Mark, stretch
from tests.record import made
from tests.record.made import RUN, START


@pytest.fixture
def browser(book):
    return Browser(book.writer, statement_seconds=SECONDS)


def point(what, source, at, value=1.0):
    return Sample(what=what, source=source, at=START + at, value=value).of(RUN, RUN, "watch")


@given(st.floats(0, 1e9))
def test_a_plot_never_has_more_points_than_it_can_show(span):
    seconds = stretch(span)
    first = 0.999 * seconds  # the worst place to begin: the last one lies in a stretch of its own
    assert (first + span) // seconds + 1 <= POINTS


def test_a_short_deployment_is_shown_as_exactly_as_it_was_measured():
    assert (stretch(0), stretch(90), stretch(7200)) == (STRETCHES[0], STRETCHES[0], 20)


def test_names_that_sort_oddly_are_each_there_once(book, browser):
    names = [("a", "x"), ("a", "y"), ("a b", "x"), ("", ""), ("Ä", "x"), ("z" * 60, "%s"), ("a", "")]
    book.ledger.write([made.deployment(), *(point(*name, n) for name in names for n in range(3))])
    book.ledger.write([made.deployment("other"), point("b", "b", 1).of("other", "other", "watch")])
    for since in (0, START + 2):
        found = browser.thinned("pms", RUN, since).lines
        assert sorted((one.what, one.source) for one in found) == sorted(names)
    assert {len(one.points) for one in browser.thinned("pms", RUN, START + 1).lines} == {2}


def test_from_a_moment_on_it_is_the_end_of_the_whole(book, browser):
    book.ledger.write([made.deployment(), *(point("cpu", "pods", n / 3, n % 7) for n in range(2000))])
    whole = browser.thinned("pms", RUN, 0)
    (line,), width = whole.lines, whole.seconds
    slots = sorted(line.points)
    for since in (slots[5] * width, slots[5] * width + width / 2):
        (rest,) = browser.thinned("pms", RUN, since).lines
        assert rest.points == {slot: line.points[slot] for slot in slots[5:]}


def test_what_is_new_of_a_deployment_leaves_another_mark(book, browser):
    assert browser.mark(RUN) == Mark()
    marks = []
    for entry in (
        made.deployment(), made.check("a.b.c"), made.decision("decide"), made.said("text"), made.outcome(),
        made.incident("opened", 3), Change(revision="a", committed_at=1).of(RUN, RUN, ""),
    ):  # fmt: skip
        book.ledger.write([entry])
        marks.append(browser.mark(RUN))
    assert len({one.entries for one in marks}) == len(marks)
    assert (marks[-1].step, marks[-1].verdict, marks[-1].measured_at) == ("a.b.c", "pass", 0.0)
    book.ledger.write([point("cpu", "pods", 7.5)])
    after = browser.mark(RUN)
    assert (after.entries, after.measured_at) == (marks[-1].entries, START + 7.5)


def test_only_what_is_asked_for_is_read(book, browser):
    book.ledger.write([made.deployment(), made.check("a"), made.outcome(), made.incident("opened", 3)])
    (record,) = browser.read_all([RUN], only=(Outcome, IncidentEntry))
    assert (record.checks, len(record.outcomes), len(record.incidents)) == ((), 1, 1)
