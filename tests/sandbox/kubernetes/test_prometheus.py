"""Our adapter before a real Prometheus: what its own server answers, not what we believe that it would."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import closing

import httpx
import pytest
import yaml

from handover.adapters.prometheus import PrometheusMetrics
from handover.plan.sources import Prometheus
from handover.ports.metrics import Query
from sandbox.kubernetes.build import prometheus
from sandbox.settings import Subnet
from tests.support.steps import connect_to
from tests.support.until import until
from tests.support.web import Answer, serving

PAGE = b"""# TYPE queue gauge
queue{shard="a"} 4
queue{shard="b"} 5
# TYPE nothing gauge
nothing NaN
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of one that has read `PAGE` of a pod."""
    program, folder = prometheus(print), tmp_path_factory.mktemp("prometheus")
    with closing(Subnet()) as own, serving(lambda _: Answer(200, PAGE, {"Content-Type": "text/plain"})) as pod:
        url = f"http://{own.prefix}.0.2:9090"
        often = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
        job = {"job_name": "pods", **often, "static_configs": [{"targets": [f"{pod.host}:{pod.port}"]}]}
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
        argv = [program, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={own.prefix}.0.2:9090"]  # fmt: skip
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is None and _has_read(url), "a scrape")
            yield url
        finally:
            process.kill()
            process.wait()


def _has_read(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "queue"}, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and len(answer.json()["data"]["result"]) == 2


@pytest.fixture
def ask(server, monkeypatch):
    host, _, port = server.removeprefix("http://").partition(":")
    connect_to(monkeypatch, "monitor", host=host, port=int(port))

    async def work(queries):
        source = PrometheusMetrics("mine", Prometheus(type="prometheus", connection="monitor"), queries)
        try:
            return await source.measure()
        finally:
            await source.close()

    def run(*texts: str):
        """Value, or why there is none, of each query."""
        found = asyncio.run(work([Query(f"q{n}", text) for n, text in enumerate(texts)]))
        return [one.why if one.value is None else one.value for one in found]

    return run


def test_one_number(ask):
    assert ask('queue{shard="a"}', "sum(queue)", "scalar(sum(queue))", "1 / 4") == [4, 9, 9, 0.25]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("queue", "2 series, exactly one is wanted"),
        ("none", "no series, exactly one is wanted"),
        ("nothing", "nan is no value"),
        ("1 / 0", "inf is no value"),
        ("-1 / 0", "-inf is no value"),
        ('"text"', "a string, not one sample"),
        ("queue[1m]", "a matrix, not one sample"),
        ("sum(", "status 400"),
        ("sum(queue", "unclosed left parenthesis"),
        ("queue + on() group_left queue", "status 422"),
        ("quantile(2, queue)", "monitor warns: "),
    ],
)
def test_everything_else_is_no_data_with_the_reason_and_takes_nothing_from_others(ask, query, said):
    why, good = ask(query, "sum(queue)")
    assert said in why
    assert good == 9


def test_another_path_than_its_api_is_no_data(server, monkeypatch):
    host, _, port = server.removeprefix("http://").partition(":")
    connect_to(monkeypatch, "monitor", host=f"http://{host}:{port}/graph")
    source = PrometheusMetrics("mine", Prometheus(type="prometheus", connection="monitor"), [Query("q", "up")])

    async def work():
        (found,) = await source.measure()
        await source.close()
        return found

    found = asyncio.run(work())
    assert found.value is None
    assert "404, there is none" in found.why
