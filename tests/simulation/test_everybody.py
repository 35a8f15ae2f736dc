"""Everybody who moves traffic at once, in thousands of schedules that are drawn."""

from __future__ import annotations

import itertools

import pytest

from tests.simulation.scenario import Played, Player, next_meets_command, numbered
from tests.simulation.schedule import Drawn
from tests.support.summary import SCHEDULES

PARTS = 4
"""So that somebody who waits sees it go on."""
DRAWN, SLOW = 1500, 600


@pytest.mark.parametrize("part", range(PARTS))
def test_everybody_at_once_with_faults_that_are_drawn(player, play, part):
    play(numbered(player, 3 * number) for number in range(part, DRAWN, PARTS))


@pytest.mark.parametrize("kind", range(3))
def test_the_way_back_in_two_changes_keeps_the_same_promises(record_property, kind):
    """Where something before the service is slow to let a colour in, both serve on the way back."""
    slow = Player(entry_seconds=1.0)
    for number in range(kind, SLOW, 3):
        schedule, cast, to_the_end = numbered(slow, number)
        assert not (found := slow.play(schedule, cast, to_the_end=to_the_end).violations), (number, found, schedule.met)
    record_property(SCHEDULES, SLOW // 3)


def test_a_person_who_goes_back_meets_the_next_deployment_at_every_moment(play):
    play((*next_meets_command(0.003 * step), False) for step in range(500))


def test_the_same_number_is_the_same_schedule(player):
    def once() -> Played:
        schedule, cast, to_the_end = numbered(player, 42 * 3)
        return player.play(schedule, cast, to_the_end=to_the_end)

    assert once() == once()


def test_a_schedule_meets_what_it_says():
    drawn = [Drawn(seed) for seed in range(60)]
    rates = {schedule._rate for schedule in drawn}
    assert len(rates) == 4
    met = itertools.chain.from_iterable(
        (schedule.fault(schedule.next_call("a"), write=write) for write in (True, False) for _ in range(200))
        for schedule in drawn
    )
    assert len({fault for fault in met if fault}) == 9
