"""One player for all of a process, and how schedules are played by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.simulation.scenario import Cast, Played, Player
from tests.simulation.schedule import Schedule
from tests.support.summary import SCHEDULES

Play = Callable[[Iterable[tuple[Schedule, Cast, bool]]], None]


@pytest.fixture(scope="session")
def player() -> Player:
    return Player()


@pytest.fixture
def play(player: Player, record_property: Callable[[str, object], None]) -> Play:
    """Plays them all, and tells the first that breaks anything."""

    def all_of(schedules: Iterable[tuple[Schedule, Cast, bool]]) -> None:
        count = 0
        for schedule, cast, to_the_end in schedules:
            played: Played = player.play(schedule, cast, to_the_end=to_the_end)
            count += 1
            assert not played.violations, (played.violations, schedule.faults, schedule.met)
        record_property(SCHEDULES, count)
        assert count

    return all_of
