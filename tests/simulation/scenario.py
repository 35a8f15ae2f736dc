"""One schedule from its beginning until all is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.simulation import actors
from tests.simulation.actors import Steps, World
from tests.simulation.invariants import Violation, Witness
from tests.simulation.schedule import Drawn, Schedule
from tests.twins.service import TwinService

Cast = Callable[[World], None]
LIMIT_SECONDS = 3600.0
"""Virtual; nothing that goes on for longer ever ends."""


@dataclass(frozen=True)
class Played:
    """What came of one schedule."""

    violations: list[Violation]
    calls: dict[str, int]
    met: list[tuple[Any, str, Any]]


async def play(plan: Any, steps: Steps, schedule: Schedule, cast: Cast) -> Played:
    """Runs a cast of actors to the end."""
    service = TwinService(plan, start_seconds=1.0)
    service.cluster.others_go_on = False
    witness = Witness(service)
    world = World(service, steps, schedule)
    world.witness = witness
    cast(world)
    async with asyncio.timeout(LIMIT_SECONDS):
        await world.at_rest()
    return Played(witness.at_rest(), dict(schedule.calls), schedule.met)


def everybody(seed: int) -> tuple[Schedule, Cast]:
    """A cast that is drawn, too: a deployment, and whoever may come in between."""
    schedule = Drawn(seed)

    def cast(world: World) -> None:
        breach = schedule.moment(6.0) if schedule.chance(0.3) else None
        world.start("deployment", partial(actors.deployment, world, "run-1", "v1.1.0", breach_after=breach))
        for name, share, work in (
            ("rollback", 0.4, lambda: _later(world, partial(_roll_back, world))),
            ("command", 0.25, lambda: _later(world, partial(actors.command_line, world))),
            ("second", 0.4, lambda: _later(world, partial(actors.deployment, world, "run-2", "v1.2.0"))),
            ("person", 0.1, lambda: _later(world, partial(actors.kubectl, world, "blue"))),
            ("hpa", 0.2, lambda: _later(world, partial(actors.autoscaler, world, "blue", (3, 2)))),
            ("hpa-green", 0.1, lambda: _later(world, partial(actors.autoscaler, world, "green", (3, 2)))),
        ):
            if schedule.chance(share):
                if name == "person":
                    world.witness.by_hand = True
                world.start(name, work)

    return schedule, cast


async def _later(world: World, work: Callable[[], Any]) -> None:
    await asyncio.sleep(world.schedule.moment(25.0))
    await work()


async def _roll_back(world: World) -> None:
    actors.start_rollback(world, None, "manual__rollback")
