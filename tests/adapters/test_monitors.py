"""Monitors: what each takes for one number, and everything that it does not."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from handover.adapters.json_service import Where
from handover.adapters.monitors import KINDS, monitors
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.metrics import NoAnswer, Query
from tests.support.monitors import APPLICATION_KEY, MONITORS, SECRET, Monitor
from tests.support.steps import connect_to
from tests.support.web import Answer, nobody, serving, silent

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
QUERIES = {
    "prometheus": "up", "datadog": "avg:m{*}", "newrelic": "SELECT count(*) FROM T", "json": "/stats queues.0.length",
}  # fmt: skip
HTTP = list(QUERIES)


def planned(kind: str, *measures: dict[str, Any], **more: Any) -> Plan:
    rules = {"type": kind, "connection": "monitor"} | ({"account": 7} if kind == "newrelic" else {}) | more
    data = PLAN.model_dump(mode="json") | {"sources": {"mine": rules}, "measures": measures}
    return Plan.model_validate(data)


def source(kind: str, *queries: Query, **more: Any):
    rules = planned(kind, **more).sources["mine"]
    return KINDS[kind]("mine", rules, queries or [Query("asked", QUERIES[kind])])


def looked(source, times: int = 1) -> list[Any]:
    """What each look gave: measurements, or why there are none."""

    async def work():
        found = []
        for _ in range(times):
            try:
                found.append(await source.measure())
            except NoAnswer as error:
                found.append(str(error))
        await source.close()
        return found

    return asyncio.run(work())


def why(source) -> str:
    (found,) = looked(source)
    if isinstance(found, str):
        return found
    (one,) = found
    assert one.value is None
    return one.why


@contextmanager
def asked_of(answer, monkeypatch):
    """The monitor's connection leads to a server."""
    with serving(answer) as web:
        extra = {"application_key": APPLICATION_KEY}
        connect_to(monkeypatch, "monitor", host=web.host, port=web.port, password=SECRET, extra=extra)
        yield web


def answered(result: list[Any]) -> dict[str, Any]:
    """What Prometheus says."""
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


# --- the same for whatever speaks JSON over HTTP

ECHO = {"error": f"{SECRET} is wrong", "errors": [f"{SECRET} and {APPLICATION_KEY} are wrong"]}


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401, ECHO), "401, the connection's credentials are refused"),
        (Answer(403, ECHO), "403, the connection's credentials are refused"),
        (Answer(429, ECHO, {"Retry-After": "7"}), "rate limit reached, try again in 7 s"),
        (Answer(429, ECHO), "rate limit reached, try again later"),
        (Answer(404, ECHO), "404, there is none"),
        (Answer(422, ECHO), "status 422: *** "),
        (Answer(400, b"<html>"), "status 400"),
        (Answer(500, ECHO), "status 500: *** "),
        (Answer(503, b"upstream is\n away"), "status 503: upstream is away"),
        (Answer(503, {"detail": "in maintenance"}), "status 503: in maintenance"),
        (Answer(204), "status 204"),
        (Answer(307, headers={"Location": "https://elsewhere.example.com/"}), "307, a redirect, which is not followed"),
        (Answer(200, b"<html>login</html>", {"Content-Type": "text/html"}), "the answer is not JSON (text/html)"),
        (Answer(200, b""), "the answer is not JSON"),
        (Answer(200, b'{"data":' * 50_000), "the answer is not JSON"),
        (Answer(200, b" " * 10_000_000), "the answer is larger than 1 MB"),
        (Answer(200, None), ""),
        (Answer(200, []), ""),
        (Answer(200, {}), ""),
        (Answer(200, ECHO), ""),
        (Answer(200, 7), ""),
        (Answer(200, "7"), ""),
    ],
)
def test_what_is_no_answer_is_no_data_with_the_reason_and_no_secret(monkeypatch, kind, answer, said):
    with asked_of(lambda _: answer, monkeypatch):
        found = why(source(kind))
    assert found
    assert said in found
    assert SECRET not in found and APPLICATION_KEY not in found


@pytest.mark.parametrize("kind", HTTP)
def test_a_redirect_gets_no_credentials(monkeypatch, kind):
    with serving(lambda _: Answer(200, {})) as elsewhere:
        with asked_of(lambda _: Answer(302, headers={"Location": f"{elsewhere.url}/"}), monkeypatch):
            why(source(kind))
        assert elsewhere.asked == []


@pytest.mark.parametrize("kind", HTTP)
def test_nobody_there_a_hanging_server_and_no_connection(monkeypatch, kind):
    with nobody() as (host, port):
        connect_to(monkeypatch, "monitor", host=host, port=port, password=SECRET)
        assert "monitor: " in why(source(kind))
    with silent() as (host, port):
        connect_to(monkeypatch, "monitor", host=host, port=port, password=SECRET)
        assert "no answer within 0.2 s" in why(source(kind, timeout_seconds=0.2))
    monkeypatch.delenv("AIRFLOW_CONN_MONITOR")
    assert why(source(kind)) == "there is no connection monitor"


@pytest.mark.parametrize("kind", HTTP)
def test_a_server_that_never_ends_its_answer_is_no_data_in_time(monkeypatch, kind):
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        with suppress(OSError):
            client = server.accept()[0]
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
            while not over.wait(0.02):
                client.sendall(b" ")
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        host, port = server.getsockname()
        connect_to(monkeypatch, "monitor", host=host, port=port, password=SECRET)
        assert "no answer within 0.3 s" in why(source(kind, timeout_seconds=0.3))
        over.set()
        thread.join(60)


def test_a_service_that_wants_to_be_left_alone_is(monkeypatch):
    limited = Answer(429, headers={"Retry-After": "30"})
    with asked_of(lambda _: limited, monkeypatch) as web:
        first, second = looked(source("prometheus"), times=2)
    assert "try again in 30 s" in first
    assert "rate limit reached, asked again in" in second
    assert len(web.asked) == 1


def test_credentials_are_read_anew_after_a_refusal(monkeypatch):
    there = MONITORS["prometheus"]()
    with asked_of(there, monkeypatch) as web:
        connect_to(monkeypatch, "monitor", host=web.host, port=web.port, password="old")
        mine = source("prometheus")

        async def work():
            with pytest.raises(NoAnswer, match="credentials are refused"):
                await mine.measure()
            connect_to(monkeypatch, "monitor", host=web.host, port=web.port, password=SECRET)
            (found,) = await mine.measure()
            await mine.close()
            return found.value

        assert asyncio.run(work()) == 1.5


def test_one_bad_query_takes_nothing_from_the_others(monkeypatch):
    class Two(Monitor):
        def answer(self, asked, path, query):
            rows = [{"metric": {}, "value": [1.0, "2"]}] * (2 if query["query"] == "many" else 1)
            return Answer(200, answered(rows))

    with asked_of(Two(), monkeypatch):
        (found,) = looked(source("prometheus", Query("a", "one"), Query("b", "many", "s")))
    assert [(one.what, one.value, one.unit) for one in found] == [("a", 2.0, ""), ("b", None, "s")]
    assert found[1].why == "2 series, exactly one is wanted"


def test_how_a_connection_says_who_we_are():
    assert Where("u", password=SECRET).hidden(f"Bearer {SECRET}!") == "Bearer ***!"
    basic = Where("u", "ada", SECRET, {"key": "k3y"})
    assert basic.hidden("YWRhOnMzY3JldC10MGtlbg== k3y") == "*** ***"
    assert SECRET not in repr(basic) and "k3y" not in repr(basic)


# --- CloudWatch


def test_cloudwatch_without_its_connection_is_nobody_else(monkeypatch):
    """Airflow's own hook would go on as whoever this machine is."""
    monkeypatch.delenv("AIRFLOW_CONN_MONITOR", raising=False)
    assert why(source("cloudwatch", Query("asked", "SELECT MAX(x) FROM y"))) == "there is no connection monitor"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "GetMetricData was refused: AccessDenied"),
        (400, "Throttling", "GetMetricData was refused: Throttling"),
        (400, "ValidationError", "ValidationError: no such function"),
    ],
)
def test_cloudwatch_that_refuses(monkeypatch, status, code, said):
    body = {"__type": f"x#{code}", "message": "no such function"}
    answer = Answer(status, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.0"})
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": SECRET, "region_name": "eu-central-1"}
    with serving(lambda _: answer) as web:
        connect_to(monkeypatch, "monitor", conn_type="aws", extra=keys | {"endpoint_url": web.url})
        found = why(source("cloudwatch", Query("asked", "SELECT MAX(x) FROM y")))
    assert said in found
    assert SECRET not in found


# --- which there are


def measure(**more: Any) -> dict[str, Any]:
    return {"name": "queue", "source": "mine", "query": 'q{version="{version}"} {number}', "limit": {"above": 1}} | more


def test_the_monitors_of_a_plan_are_asked_for_what_is_watched(monkeypatch):
    there = MONITORS["prometheus"]()
    with asked_of(there, monkeypatch) as web:
        (mine,) = monitors(
            planned("prometheus", measure(query="{version}|{number}|{colour}|{namespace}|{x}")),
            version="v1.1.0",
            colour="green",
        )
        ((found,),) = looked(mine)
    assert (mine.name, found.what, found.value, found.unit) == ("mine", "queue", 1.5, "")
    assert "v1.1.0%7C1.1.0%7Cgreen%7Cproduction%7C%7Bx%7D" in web.asked[0].path


def test_a_monitor_that_no_measure_asks_is_not_asked():
    out = measure(phases=[])
    assert monitors(planned("prometheus"), version="v1", colour="green") == []
    assert monitors(planned("prometheus", out), version="v1", colour="green") == []


def test_a_version_that_cannot_stand_in_a_query_is_no_data():
    (mine,) = monitors(planned("prometheus", measure()), version='v1"} or vector(0) or q{a="', colour="green")
    assert "cannot stand in a query" in why(mine)


def test_every_kind_of_the_plan_has_its_source():
    from typing import get_args

    from handover.plan.sources import Source

    types = [get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(Source)[0])]
    assert sorted(types) == sorted(KINDS)


def test_a_look_takes_no_longer_than_its_bound_however_many_queries_there_are(monkeypatch):
    gate = threading.Event()

    def slow(_):
        gate.wait(60)
        return Answer(200, answered([{"metric": {}, "value": [1.0, "1"]}]))

    queries = [Query(f"q{n}", "up") for n in range(150)]  # more than a client has connections
    with asked_of(slow, monkeypatch):
        begun = time.monotonic()
        (found,) = looked(source("prometheus", *queries, timeout_seconds=0.3))
        gate.set()
    assert "no answer within 0.3 s" in found
    assert time.monotonic() - begun < 55
