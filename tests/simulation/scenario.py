"""One schedule from its beginning until all is quiet: who takes part, and what came of it."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from handover.plan import manifest
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from tests.simulation import actors
from tests.simulation.actors import Steps, World
from tests.simulation.invariants import Violation, Witness
from tests.simulation.loop import JumpingLoop
from tests.simulation.schedule import LATE, READS, WRITES, Call, Drawn, Fault, Schedule
from tests.twins.service import TwinService

Cast = Callable[[World], None]
Pair = tuple[str, str]
LIMIT_SECONDS = 3600.0
"""Virtual; what goes on for longer never ends."""
METRICS = 'http_requests_total{code="200"} 1\n' + "".join(
    f'http_request_duration_seconds_bucket{{le="{le}"}} 1\n' for le in ("0.1", "+Inf")
)
QUICK: dict[str, dict[str, Any]] = {
    "traffic": {
        "overlap_seconds": 0.2, "endpoint_timeout_seconds": 5.0, "drain_timeout_seconds": 1.0, "verify_requests": 3,
    },
    "rollback": {"old_colour_timeout_seconds": 30.0},
    "record": {"sample_seconds": 1e6, "flush_seconds": 1e6},
    "watch": {"no_data_seconds": 30.0},
}  # fmt: skip


@dataclass(frozen=True)
class Played:
    """What came of one schedule."""

    violations: tuple[Violation, ...]
    calls: dict[str, int]
    met: tuple[tuple[Call, str, Fault], ...]
    writes: frozenset[Call]

    def faults(self, call: Call) -> list[Fault]:
        """What this call may meet, each once that makes a difference."""
        return list(WRITES) if call in self.writes else [fault for fault in READS if fault not in LATE]


class Player:
    """Plays schedules, one after the other: the plan and the steps are made once. ``traffic``: more of that section."""

    def __init__(self, **traffic: Any) -> None:
        self.plan = _quick(load_plan(INCLUDE / "plans" / "pms.yaml"), traffic)
        self.steps = Steps.of(self.plan)
        self._read = functools.lru_cache(64)(manifest.from_yaml)
        self.calls = {names: self._calls(names) for names in PAIRS}
        """How many calls two have who meet as late as they can."""

    def play(self, schedule: Schedule, cast: Cast, *, to_the_end: bool = True) -> Played:
        """``to_the_end``: whether this cast ends what it begins, so that lock and record can be held to it."""
        loop = JumpingLoop()
        with self._quick_and_silent():
            try:
                return loop.run_until_complete(self._play(schedule, cast, to_the_end))
            finally:
                loop.close()

    @contextmanager
    def _quick_and_silent(self) -> Iterator[None]:
        """The same few manifests are read once, and nobody logs; both only while a schedule is played."""
        loggers = [logging.getLogger(name) for name in ("handover", actors.SILENT.name)]
        were, read = [logger.level for logger in loggers], manifest.from_yaml
        manifest.from_yaml = lambda text: pickle.loads(pickle.dumps(self._read(text)))
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            manifest.from_yaml = read
            for logger, level in zip(loggers, were, strict=True):
                logger.setLevel(level)

    def _calls(self, names: Pair) -> dict[str, int]:
        alone = self.play(*pair(names, 10_000, None), to_the_end=False).calls["first"]
        return self.play(*pair(names, alone - 1, None), to_the_end=False).calls

    async def _play(self, schedule: Schedule, cast: Cast, to_the_end: bool) -> Played:
        service = TwinService(self.plan, start_seconds=1.0, metrics=METRICS)
        service.cluster.others_go_on = False
        for pods in service.cluster.pods.values():
            for pod in pods:
                pod.ready_at = 0.0
        world = World(service, self.steps, schedule, Witness(service, tell=schedule.tell))
        cast(world)
        async with asyncio.timeout(LIMIT_SECONDS):
            await world.at_rest()
        violations = world.witness.at_rest(to_the_end)
        return Played(tuple(violations), dict(schedule.calls), tuple(schedule.met), frozenset(schedule.writes))


def _quick(plan: Plan, traffic: dict[str, Any]) -> Plan:
    quick = {**QUICK, "traffic": QUICK["traffic"] | traffic}
    parts = {name: getattr(plan, name).model_copy(update=values) for name, values in quick.items()}
    return plan.model_copy(update=parts)


# --- everybody at once, drawn from a seed


def drawn(seed: int) -> tuple[Schedule, Cast]:
    """A deployment from its beginning to its end, and whoever may come in between."""
    schedule = Drawn(seed)

    def cast(world: World) -> None:
        breach = schedule.moment(6.0) if schedule.chance(0.3) else None
        world.start("deployment", partial(actors.deployment, world, "run-1", "v1.1.0", breach_after=breach))
        later = {
            "rollback": (0.4, partial(_roll_back, world)),
            "command": (0.25, partial(actors.command_line, world)),
            "second": (0.4, partial(actors.deployment, world, "run-2", "v1.2.0")),
            "person": (0.1, partial(actors.kubectl, world, "blue")),
            "hpa-blue": (0.2, partial(actors.autoscaler, world, "blue", (3, 2))),
            "hpa-green": (0.1, partial(actors.autoscaler, world, "green", (3, 2))),
        }
        for name, (share, work) in later.items():
            if schedule.chance(share):
                world.start(name, partial(_later, world, schedule.moment(25.0), work))

    return schedule, cast


async def _later(world: World, seconds: float, work: Callable[[], Any]) -> None:
    await asyncio.sleep(seconds)
    await work()


async def _roll_back(world: World) -> None:
    actors.start_rollback(world, None, "manual__rollback")


# --- two at a time and one fault, all of them

FIRST: dict[str, Callable[[World], Any]] = {
    "cutover": actors.cutover, "retirement": actors.retirement, "opening": actors.opening,
}  # fmt: skip
SECOND: dict[str, Callable[[World], Any]] = {
    "rollback": actors.move_traffic_back, "command": actors.command_line, "watch": actors.watch_alone,
    "second opening": actors.second_opening,
}  # fmt: skip
PAIRS: tuple[Pair, ...] = (
    ("cutover", "rollback"), ("cutover", "command"), ("cutover", "watch"),
    ("retirement", "rollback"), ("retirement", "command"), ("opening", "second opening"),
)  # fmt: skip
FAULTS = tuple(dict.fromkeys((*READS, *WRITES)))


def pair(names: Pair, begins_at: int, fault: tuple[Call, Fault] | None) -> tuple[Schedule, Cast]:
    """The second begins with a certain call of the first; one call of either meets a fault."""
    first, second = names
    schedule = Schedule(dict([fault]) if fault else {})

    def cast(world: World) -> None:
        if first != "opening":
            actors.opened(world, promoted=first == "retirement")
        world.waiting[Call("first", begins_at)] = [("second", partial(SECOND[second], world))]
        world.start("first", partial(FIRST[first], world))

    return schedule, cast


def next_meets_command(after: float) -> tuple[Schedule, Cast]:
    """A person goes back to the version before, which takes a while to wake; the next deployment begins then."""
    schedule = Schedule()

    def cast(world: World) -> None:
        actors.ended(world)
        world.start("command", partial(actors.command_line, world))
        world.start("second", partial(_later, world, after, partial(actors.deployment, world, "run-2", "v1.2.0")))

    return schedule, cast


def exhaustive(player: Player, names: Pair, part: int = 0, parts: int = 1) -> Iterator[tuple[Schedule, Cast]]:
    """Every moment at which the second may begin, times every fault at every call of both.

    :param part: of so many: every how manieth moment
    """
    for begins_at in range(part, player.calls[names]["first"], parts):
        alone = player.play(*pair(names, begins_at, None), to_the_end=False)
        yield pair(names, begins_at, None)
        for actor in ("first", "second"):
            for call in (Call(actor, number) for number in range(alone.calls.get(actor, 0))):
                for fault in alone.faults(call):
                    yield pair(names, begins_at, (call, fault))


# --- all of it by number


def numbered(player: Player, number: int) -> tuple[Schedule, Cast, bool]:
    """The schedule of this number, and whether it is played to the end. Every third has everybody in it; in the others
    two meet and one of their calls meets a fault, in half of them by being held up: then it goes on in another world.
    """
    if number % 3 == 0:
        return *drawn(number), True
    draw = random.Random(number)
    names, actor = draw.choice(PAIRS), draw.choice(("first", "second"))
    calls = player.calls[names]
    faults = (Fault.HELD_UP, Fault.HELD_UP_LATE) if number % 3 == 1 else FAULTS
    fault = Call(actor, draw.randrange(calls[actor])), draw.choice(faults)
    return *pair(names, draw.randrange(calls["first"]), fault), False
