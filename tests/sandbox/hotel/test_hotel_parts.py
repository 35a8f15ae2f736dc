"""Functions and small classes of the service that need neither database nor network."""

from __future__ import annotations

import asyncio
import unittest

import pytest
from prometheus_client import CollectorRegistry, Counter

from sandbox.hotel import schema, seed
from sandbox.hotel.cache import Cache
from sandbox.hotel.pod import Fault
from sandbox.hotel.scripts import unit


def test_the_image_s_own_unit_tests_pass() -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(unit).run(result)
    assert result.testsRun >= 10
    assert result.wasSuccessful(), result.failures + result.errors


@pytest.fixture
def cache() -> Cache:
    registry = CollectorRegistry()
    return Cache(0.05, Counter("hits", "", registry=registry), Counter("misses", "", registry=registry))


def test_the_cache_loads_a_value_once_for_all_who_wait(cache: Cache) -> None:
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.01)
        return loads

    async def run() -> None:
        assert await asyncio.gather(*(cache.get("k", load) for _ in range(5))) == [1] * 5
        await asyncio.sleep(0.06)
        assert await cache.get("k", load) == 2

    asyncio.run(run())


def test_the_cache_keeps_no_failure(cache: Cache) -> None:
    async def fail() -> None:
        raise ConnectionError

    async def load() -> int:
        return 1

    async def run() -> None:
        with pytest.raises(ConnectionError):
            await cache.get("k", fail)
        assert await cache.get("k", load) == 1

    asyncio.run(run())


def test_a_release_s_fault_begins_with_its_300th_request() -> None:
    fault = Fault.of_release("errors")
    strikes = [fault.strikes("/rooms") for _ in range(301)]
    assert strikes == [""] * 299 + ["errors"] * 2
    assert Fault.of_release("none").strikes("/rooms") == ""
    assert Fault("slow").strikes("/rooms") == "slow"


def test_scans_need_no_escape_in_copy() -> None:
    text = seed.scan()
    assert len(text) == seed.DOCUMENT_BYTES
    assert text.isascii()
    assert text.isprintable()
    assert "\\" not in text


def test_what_a_version_misses() -> None:
    base = schema.names(schema.REQUIRED)
    assert schema.missing(base, "v1.1.0", migrated=False) == []
    assert schema.missing(base, "v1.0.0", migrated=True) == []
    assert schema.missing(base, "v1.1.0", migrated=True) == ["bookings.channel", "bookings.special_requests"]
    assert schema.missing(base - {"users.email"}, "v1.0.0", migrated=False) == ["users.email"]
