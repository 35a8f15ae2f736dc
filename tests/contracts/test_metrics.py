"""What every source of measurements promises: see `handover.ports.metrics`. Each on its own protocol and over a real
connection, which can be cut and can fall silent: small servers that answer as monitors document it, moto for
CloudWatch, a real PostgreSQL.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from handover.adapters.monitors import KINDS
from handover.checks import sources as checks_sources
from handover.checks.sources import ErrorTrackerSource
from handover.database import lag
from handover.database.sources import DatabaseSource
from handover.models.names import CONNECTIONS, NEW_ERRORS
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.metrics import MetricSource, NoData, Query
from tests.support.monitors import APPLICATION_KEY, MONITORS, SECRET
from tests.support.postgres import PASSWORD
from tests.support.relay import Relay, relayed
from tests.support.steps import connect_to
from tests.support.web import serving

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PATIENCE = 60.0
"""Seconds; what takes so long is broken on any machine."""
QUERIES = {
    "prometheus": 'sum(rate(errors_total{version="{version}"}[1m]))', "datadog": "avg:errors{version:v1.1.0}",
    "newrelic": "SELECT percentile(duration, 99) FROM Transaction", "json": "/stats queues.0.length",
    "cloudwatch": "{namespace: web, metric: errors-N, statistic: Maximum, dimensions: {version: v1.1.0}}",
    "sql": "SELECT value FROM told",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"newrelic": {"account": 7}}
NUMBERS = itertools.count(1)
WHAT = {"sentry": NEW_ERRORS, "database": CONNECTIONS}


@dataclass
class Tried:
    """A source behind a relay. ``tell``: makes it say this value; ``exact``: whether it says nothing else."""

    source: MetricSource
    relay: Relay
    what: str
    unit: str
    tell: Callable[[float], None]
    exact: bool = True


def of_the_plan(kind: str, seconds: float, number: int = 0) -> MetricSource:
    rules = {"type": kind, "connection": "monitor", "timeout_seconds": seconds, **SETTINGS.get(kind, {})}
    plan = Plan.model_validate(PLAN.model_dump(mode="json") | {"sources": {"mine": rules}})
    query = QUERIES[kind].replace("errors-N", f"errors-{number}")
    return KINDS[kind]("mine", plan.sources["mine"], [Query("asked", query, "s")])


@contextmanager
def monitor(kind: str, seconds: float, patch: pytest.MonkeyPatch) -> Iterator[Tried]:
    there = MONITORS[kind]()
    with serving(there) as web, relayed((web.host, web.port)) as relay:
        connection = "pms_sentry" if kind == "sentry" else "monitor"
        extra = {"application_key": APPLICATION_KEY}
        connect_to(patch, connection, host=relay.host, port=relay.port, password=SECRET, extra=extra)
        if kind == "sentry":
            patch.setattr(checks_sources, "TIMEOUT_SECONDS", seconds)
            source: MetricSource = ErrorTrackerSource(PLAN, "v1.1.0")
        else:
            source = of_the_plan(kind, seconds)
        unit = "" if kind == "sentry" else "s"
        yield Tried(source, relay, WHAT.get(kind, "asked"), unit, lambda value: setattr(there, "value", value))


@contextmanager
def cloudwatch(endpoint: str, seconds: float, patch: pytest.MonkeyPatch) -> Iterator[Tried]:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": SECRET, "region_name": "eu-central-1"}
    host, _, port = endpoint.removeprefix("http://").partition(":")
    number = next(NUMBERS)
    metrics = boto3.client("cloudwatch", endpoint_url=endpoint, **keys)

    def tell(value: float) -> None:
        """In the last minute that is over."""
        at = datetime.datetime.fromtimestamp(time.time() // 60 * 60 - 30, datetime.UTC)
        dimensions = [{"Name": "version", "Value": "v1.1.0"}]
        datum = {"MetricName": f"errors-{number}", "Dimensions": dimensions, "Timestamp": at, "Value": value}
        metrics.put_metric_data(Namespace="web", MetricData=[datum])

    with relayed((host, int(port))) as relay:
        extra = keys | {"endpoint_url": f"http://{relay.host}:{relay.port}"}
        connect_to(patch, "monitor", conn_type="aws", extra=extra)
        yield Tried(of_the_plan("cloudwatch", seconds, number), relay, "asked", "s", tell)


@contextmanager
def postgres(kind: str, seconds: float, servers: Any, patch: pytest.MonkeyPatch) -> Iterator[Tried]:
    database = servers.new("owner")
    with database.connect() as session, relayed((database.host, database.port)) as relay:
        session.execute("CREATE TABLE told AS SELECT 1.5::numeric AS value")
        there = {"host": relay.host, "port": relay.port, "login": "owner", "password": PASSWORD}
        connect_to(patch, "monitor", conn_type="postgres", schema=database.name, **there)

        def tell(value: float) -> None:
            session.execute("UPDATE told SET value = %s", [value])

        if kind == "sql":
            yield Tried(of_the_plan("sql", seconds), relay, "asked", "s", tell)
            return
        patch.setattr(lag, "NO_TIMEOUT", seconds)
        yield Tried(DatabaseSource("monitor", ()), relay, CONNECTIONS, "", tell, exact=False)


@pytest.fixture
def seconds() -> float:
    """What a look may take: more than any machine needs."""
    return PATIENCE / 6


@pytest.fixture(params=[*MONITORS, "cloudwatch", "sql", "database"])
def tried(request: pytest.FixtureRequest, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tried]:
    """Each kind of source in turn; at the end it is closed."""
    kind = request.param
    if kind == "cloudwatch":
        made = cloudwatch(request.getfixturevalue("s3_endpoint"), seconds, monkeypatch)
    elif kind in ("sql", "database"):
        made = postgres(kind, seconds, request.getfixturevalue("servers"), monkeypatch)
    else:
        made = monitor(kind, seconds, monkeypatch)
    with made as one:
        yield one


def looked(tried: Tried, work: Any) -> Any:
    """Runs ``work``, and closes the source: twice, for the second time is nothing."""

    async def all_of_it() -> Any:
        try:
            return await asyncio.wait_for(work(), PATIENCE)
        finally:
            await tried.source.close()
            await tried.source.close()

    return asyncio.run(all_of_it())


async def value(tried: Tried) -> float | None:
    return next(one.value for one in await tried.source.measure() if one.what == tried.what)


async def why_not(tried: Tried) -> str:
    """Why a look gave no data."""
    try:
        found = await tried.source.measure()
    except NoData as error:
        return str(error)
    except Exception as error:
        assert tried.what == CONNECTIONS, "a source of the plan says why by NoData"
        return str(error)
    return next(one.why for one in found if one.value is None)


def test_a_measurement_has_its_name_value_unit_source_and_time(tried):
    tried.tell(3)
    begun = time.time()

    async def work():
        return [one for one in await tried.source.measure() if one.what == tried.what]

    (found,) = looked(tried, work)
    assert (found.what, found.unit, found.why) == (tried.what, tried.unit, "")
    assert found.value == 3 if tried.exact else found.value > 0
    assert found.source.startswith(tried.source.name)
    assert begun - 600 < found.at < time.time() + 1


def test_a_later_look_gives_what_it_is_by_then(tried):
    async def work():
        tried.tell(2)
        first = await value(tried)
        tried.tell(5)
        return first, await value(tried)

    found = looked(tried, work)
    if tried.exact:
        assert found == (2, 5)
    else:
        assert all(one > 0 for one in found)


def test_two_looks_at_once_are_both_answered(tried):
    tried.tell(2)

    async def work():
        return await asyncio.gather(value(tried), value(tried))

    found = looked(tried, work)
    if tried.exact:
        assert found == [2, 2]
    else:
        assert all(one > 0 for one in found)


def test_nobody_there_is_no_data_with_the_reason_and_data_again_afterwards(tried):
    tried.tell(2)

    async def work():
        await value(tried)
        with tried.relay.away():
            reasons = [await why_not(tried) for _ in range(3)]
        return reasons, await again(tried)

    reasons, found = looked(tried, work)
    said_well(reasons)
    assert found == 2 if tried.exact else found > 0


@pytest.mark.parametrize("seconds", [0.3])
def test_a_source_that_falls_silent_is_no_data_within_its_bound_and_data_again_afterwards(tried):
    """That nothing hangs is the test: a look that went on for ever would be ended by our patience, and fail."""
    tried.tell(2)

    async def work():
        await again(tried)
        with tried.relay.mute():
            reasons = [await why_not(tried) for _ in range(2)]
        return reasons, await again(tried)

    reasons, found = looked(tried, work)
    said_well(reasons)
    assert found == 2 if tried.exact else found > 0


def test_a_source_that_never_was_there_says_so(tried):
    async def work():
        with tried.relay.away():
            return [await why_not(tried)]

    said_well(looked(tried, work))


def test_close_before_any_look_is_fine(tried):
    async def nothing():
        pass

    looked(tried, nothing)


async def again(tried: Tried) -> float | None:
    """The first data after an outage; a client may need a look to notice that it is over."""
    for _ in range(100):
        with suppress(Exception):
            if (found := await value(tried)) is not None:
                return found
    return None


def said_well(reasons: list[str]) -> None:
    for why in reasons:
        assert why
        assert "\n" not in why
        assert not [secret for secret in (SECRET, APPLICATION_KEY, PASSWORD) if secret in why]
