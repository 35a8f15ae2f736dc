"""A twin of the cluster beside others that are real, such as a database: it answers at once, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import pytest

from handover.outside import Outside, standing_in
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.kube import Kube
from tests.twins.kube import TwinCluster

T = TypeVar("T")


@contextmanager
def cluster_in_memory(**made: Any) -> Iterator[TwinCluster]:
    """What the product finds for as long as the block runs; ``made``: as `TwinCluster` takes it."""
    cluster = TwinCluster(**made)

    @asynccontextmanager
    async def kube(_connection: str, namespace: str) -> AsyncIterator[Kube]:
        yield cluster.client(namespace)

    with standing_in(Outside(kube=kube)):
        yield cluster


@pytest.fixture
def twin() -> Iterator[TwinCluster]:
    with cluster_in_memory() as made:
        yield made


@pytest.fixture
def in_cluster(twin: TwinCluster) -> Callable[[Callable[[Kube], Coroutine[Any, Any, T]]], T]:
    """Runs a coroutine function with a client of the namespace of production."""
    return lambda work: asyncio.run(work(twin.client()))


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The repository's."""
    return load_plan(INCLUDE / "plans" / "pms.yaml")
