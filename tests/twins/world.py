"""A whole world for the steps that move traffic, in memory and in virtual time: import the fixtures into a conftest.py.

It is told the same things as the world of `tests.support.colours`, which is on the stand-in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from handover import clock
from handover.coordination import promotion
from handover.coordination.routing import move
from handover.models.deployment import FencingToken
from handover.outside import standing_in
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.kube import Kube
from handover.ports.public import PublicAddress
from handover.ports.router import Router
from tests.support.steps import opened
from tests.support.virtual import VirtualTime, virtual_time  # noqa: F401 - fixture
from tests.twins.service import Guests, TwinAddress, TwinService, ask_for_ever

T = TypeVar("T")
Work = Callable[[Kube], Coroutine[Any, Any, T]]
QUICK: dict[str, Any] = {
    "traffic": {"overlap_seconds": 0.3, "endpoint_timeout_seconds": 10, "drain_timeout_seconds": 3},
    "rollback": {"old_colour_timeout_seconds": 30},
    "watch": {
        "probe_interval_seconds": 0.1, "metrics_interval_seconds": 0.25, "slow_interval_seconds": 0.5,
        "window_seconds": 5, "sustained_seconds": 2, "no_data_seconds": 1.5, "probe_timeout_seconds": 2,
    },
}  # fmt: skip


@dataclass
class World:
    """Traffic on blue, both colours good, a deployment that holds the lock."""

    time: VirtualTime
    service: TwinService
    token: FencingToken

    @property
    def plan(self) -> Plan:
        return self.service.plan

    def run(self, work: Work[T]) -> T:
        return asyncio.run(work(self.service.kube()))

    def router(self, kube: Kube) -> Router:
        return self.service.outside().router(kube, self.plan.cluster, self.plan.cluster.service)

    @property
    def public(self) -> PublicAddress:
        return TwinAddress(self.service)

    async def where(self, kube: Kube) -> tuple[str | None, str | None]:
        """Colour and stage."""
        route = await self.router(kube).read()
        return route.colour, route.stage

    async def promote(self, kube: Kube) -> None:
        """Clients meet the new version alone."""
        await move(self.router(kube), partial(promotion.overlap, token=self.token, at=clock.epoch()))
        await move(self.router(kube), partial(promotion.promote, token=self.token))

    async def scale(self, _: Kube, colour: str, replicas: int) -> None:
        self.service.scale(colour, replicas)

    async def tell(self, _: Kube, colour: str, **fault: Any) -> list[Any]:
        return self.service.tell(colour, **fault)

    def with_plan(self, **sections: dict[str, Any]) -> Plan:
        """The plan with other values."""
        parts = {name: getattr(self.plan, name).model_copy(update=values) for name, values in sections.items()}
        return self.plan.model_copy(update=parts)

    @contextmanager
    def guests(self) -> Iterator[Guests]:
        """Clients that keep asking for as long as the block runs anything."""
        seen = Guests()
        with self.time.beside(lambda: ask_for_ever(self.service, seen)):
            self.time.pass_by(0.2)
            yield seen
            self.time.pass_by(0.3)


def plan_with(folder: Path, **sections: Any) -> Plan:
    """The repository's plan with changes, e.g. ``cluster={"namespace": "x"}``."""
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(sections))
    return load_plan(INCLUDE / "plans" / "pms.yaml", overlay)


@pytest.fixture(scope="session")
def quick_plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_with(tmp_path_factory.mktemp("plan"), **QUICK)


@pytest.fixture
def twin(virtual_time: VirtualTime, quick_plan: Plan) -> Iterator[TwinService]:  # noqa: F811
    """What the product finds outside is this service, which nobody has deployed yet."""

    async def begin() -> TwinService:
        return TwinService(quick_plan)

    made = asyncio.run(begin())
    with standing_in(made.outside()):
        yield made


@pytest.fixture
def plan(twin: TwinService) -> Plan:
    """The plan of the twin."""
    return twin.plan


@pytest.fixture
def in_cluster(twin: TwinService) -> Callable[[Work[T]], T]:
    """Runs a coroutine function with a client of the twin."""
    return lambda work: asyncio.run(work(twin.kube()))


@pytest.fixture
def world(twin: TwinService, virtual_time: VirtualTime) -> World:  # noqa: F811
    """The same with a deployment under way."""
    image = "registry.example.com/shop/web@sha256:1"
    token = asyncio.run(opened(twin.kube(), twin.plan.lock_name, image))
    return World(virtual_time, twin, token)
