"""What Prometheus says of the database's machine, asked over real HTTP; and what is left when it says nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from handover.database import cpu
from handover.database.cpu import Cpu, busiest
from handover.plan.migration import DatabaseCpu
from tests.support.steps import connect_to
from tests.support.until import until
from tests.support.web import Answer, Asked, serving

QUERY = 'max(rate(cpu{job="db"}[1m]))'
SOURCE = DatabaseCpu(connection="pms_prometheus", query=QUERY)


def vector(*values: str) -> dict[str, Any]:
    return {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, value]} for value in values]}}


def test_the_busiest_machine_counts() -> None:
    assert busiest(vector("0.2", "0.61", "0.4")) == 0.61
    assert busiest(vector("NaN", "0.3")) == 0.3
    assert busiest({"data": {"resultType": "scalar", "result": [1.0, "0.5"]}}) == 0.5


@pytest.mark.parametrize("answer", [vector(), vector("NaN"), vector("+Inf")])
def test_no_number_is_no_value(answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no value"):
        busiest(answer)


def seen(watched: Cpu) -> dict[str, float | None]:
    return {measured.what: measured.value for measured in watched.measurements()}


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Asked]]:
    """A Prometheus that has just seen a spike, and the questions it got."""
    values = iter(["0.1", "0.9"])
    with serving(lambda _asked: Answer(body=vector(next(values, "0.2")))) as web:
        connect_to(monkeypatch, "pms_prometheus", host=web.host, port=web.port, schema="http", password="secret")
        yield web.asked


@pytest.mark.plan("Monitor database CPU usage (should spike briefly)")
def test_a_spike_is_seen_and_that_it_is_over(busy: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "INTERVAL_SECONDS", 0.02)
    watched = Cpu(SOURCE)
    with watched.watching():
        until(lambda: len(busy) >= 4, "the fourth question")
    assert seen(watched) == {"max_database_cpu": 0.9, "last_database_cpu": 0.2}
    assert parse_qs(urlsplit(busy[0].path).query) == {"query": [QUERY]}
    assert busy[0].headers["authorization"] == "Bearer secret"


def test_a_short_migration_is_measured_at_its_beginning_and_its_end(busy: list[Asked]) -> None:
    watched = Cpu(SOURCE)
    with watched.watching():
        pass
    assert seen(watched) == {"max_database_cpu": 0.9, "last_database_cpu": 0.9}
    assert len(busy) == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(status=503), Answer(body=b"<html>"), Answer(body={"status": "error"}), Answer(body=vector())],
    ids=["away", "not JSON", "refused", "no such series"],
)
def test_a_source_that_says_nothing_stops_nothing(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _asked: answer) as web:
        connect_to(monkeypatch, "pms_prometheus", host=web.host, port=web.port, schema="http")
        watched = Cpu(SOURCE)
        with watched.watching():
            pass
    assert seen(watched) == {"max_database_cpu": None, "last_database_cpu": None}


def test_a_source_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never answers at all: that this ends is the proof."""
    monkeypatch.setattr(cpu, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        connect_to(monkeypatch, "pms_prometheus", host=host, port=port, schema="http")
        watched = Cpu(SOURCE)
        with watched.watching():
            pass
    assert seen(watched)["max_database_cpu"] is None


def test_a_connection_that_is_not_there_is_no_data() -> None:
    watched = Cpu(DatabaseCpu(connection="pms_nobody", query=QUERY))
    with watched.watching():
        pass
    assert seen(watched) == {"max_database_cpu": None, "last_database_cpu": None}


def test_a_plan_without_a_source_has_nothing_on_record() -> None:
    watched = Cpu(None)
    with watched.watching():
        pass
    assert watched.measurements() == ()
