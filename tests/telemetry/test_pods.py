"""Looks at pods: what is asked for, what is left out, what is not one process, how often containers were restarted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from handover.models import names
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.kube import KubeError
from handover.telemetry.counters import NoMetrics
from handover.telemetry.pods import LOOKS_KEPT, PodReader, restarts_of
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


def page(requests: float, errors: float = 0, **more: float) -> str:
    lines = [f'http_requests_total{{code="200"}} {requests - errors}', f'http_requests_total{{code="500"}} {errors}']
    return "\n".join([*lines, *(f"{name} {value}" for name, value in more.items()), ""])


def pod(name: str, ready: bool = True, restarts: int = 0, **container: object) -> dict:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "sidecar"}, {"name": "pms", **container}]},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "pms", "restartCount": restarts}, {"name": "sidecar"}],
        },
    }


class Cluster:
    """Pods of one colour, and what a request to each of them gives."""

    def __init__(self, *pods: dict, answers: Callable[[str], str] | Iterator[str]) -> None:
        self.pods, self._answers = list(pods), answers
        self.asked: list[tuple[str, int, str]] = []

    async def list(self, resource, labels):
        assert (resource, labels) == ("pods", PLAN.cluster.selector_of("blue"))
        return self.pods

    async def proxy(self, pod, port, path, timeout):
        self.asked.append((pod, port, path))
        return self._answers(pod) if callable(self._answers) else next(self._answers)


def reader(cluster: Cluster, **rules: object) -> PodReader:
    plan = PLAN.model_dump(mode="json")
    return PodReader(cluster, Plan.model_validate(plan | {"pod_metrics": plan["pod_metrics"] | rules}), "blue")


def run(work):
    return asyncio.run(work)


# --- what is asked for


def test_port_and_path_are_the_plans():
    cluster = Cluster(answers=lambda _: page(5))
    assert run(reader(cluster, port=9090, path="/actuator/prometheus").look("a")).requests == 5
    run(reader(cluster).look("a"))
    assert cluster.asked == [("a", 9090, "/actuator/prometheus"), ("a", 8080, "/metrics")]


def test_the_pods_that_are_ready_and_the_restarts_of_all():
    source = reader(Cluster(pod("a", restarts=2), pod("b", ready=False, restarts=7), answers=lambda _: page(5)))
    assert [one["metadata"]["name"] for one in run(source.ready())] == ["a"]
    assert source.restarts == {"a": 2, "b": 7}


@pytest.mark.parametrize(("status", "restarts"), [
    ({}, 0), ({"containerStatuses": None}, 0),
    ({"containerStatuses": [{"name": "a", "restartCount": 3}, {"name": "b"}]}, 3),
    ({"initContainerStatuses": [{"name": "proxy", "restartCount": 4}, {"name": "wait", "restartCount": 9}]}, 4),
])  # fmt: skip
def test_restarts_of_containers_and_of_sidecars_that_are_called_init_containers(status, restarts):
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "wait"}], "containers": []}
    assert restarts_of({"metadata": {"name": "a"}, "spec": spec, "status": status}) == restarts


def test_what_the_kubelet_asks_for_is_left_out():
    http = {"httpGet": {"path": "/live", "port": 8080}, "periodSeconds": 5}
    probed = pod("a", livenessProbe=http, readinessProbe={"httpGet": {"path": "/rooms"}}, startupProbe=http)
    lines = [
        f'http_requests_total{{path="{path}",code="200"}} 1\n' for path in ("/live", "/rooms", "/orders", "/health")
    ]
    source = reader(Cluster(probed, pod("b", livenessProbe={"exec": {}}), answers=lambda _: "".join(lines)))
    run(source.ready())
    assert run(source.look("a")).requests == 2  # guests ask for rooms too, and for orders
    assert run(source.look("b")).requests == 3
    assert source.kubelet == {}
    source = reader(Cluster(probed, answers=lambda _: ""), counts_kubelet=True)
    run(source.ready())
    assert source.kubelet == {"a": pytest.approx(0.3)}


@pytest.mark.parametrize(("port", "rate"), [
    (8080, 2.0), ("8080", 2.0), ("http", 2.0), (9090, 0.0), ("management", 0.0), ("unnamed", 0.0),
])  # fmt: skip
def test_what_the_kubelet_asks_at_another_port_is_not_among_the_requests_of_clients(port, rate):
    ports = [{"name": "management", "containerPort": 9090}, {"name": "http", "containerPort": 8080}]
    http = {"httpGet": {"path": "/live", "port": port}, "periodSeconds": 1}
    probed = pod("a", livenessProbe=http, readinessProbe=http, ports=ports)
    source = reader(Cluster(probed, answers=lambda _: ""), counts_kubelet=True)
    run(source.ready())
    assert source.kubelet == {"a": rate}


def test_an_answer_that_is_too_large_is_no_data():
    with pytest.raises(NoMetrics, match="6000000 bytes of metrics"):
        run(reader(Cluster(answers=lambda _: "a" * 6_000_000)).look("a"))


def test_others_get_a_turn_while_a_large_answer_is_read():
    large = "".join(f'http_requests_total{{code="200",route="/{n}"}} 1\n' for n in range(10_000))
    source, turns = reader(Cluster(answers=lambda _: large)), []

    async def other():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def both():
        beside = asyncio.create_task(other())
        found = await source.look("a")
        beside.cancel()
        return found

    assert run(both()).requests == 10_000
    assert len(turns) >= 4


def test_a_cluster_that_refuses_is_its_error():
    def refuse(_):
        raise KubeError(503, "no endpoints")

    with pytest.raises(KubeError, match="no endpoints"):
        run(reader(Cluster(answers=refuse)).read("a"))


# --- endings that nobody knows


def ended(known: float, unknown: float) -> str:
    return f'http_requests_total{{code="200"}} {known}\nhttp_requests_total{{code="unknown"}} {unknown}\n'


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("pages", "lacks"), [
    ([ended(10, 3), ended(20, 3), ended(30, 3)], [True, False, False]),
    ([ended(10, 3), ended(20, 4), ended(30, 4)], [True, True, True]),
    ([ended(10, 0), ended(20, 1), ended(30, 1)], [False, True, True]),
    ([ended(10, 3), ended(0, 0), ended(30, 1)], [True, False, True]),
    (["http_requests_total 10\n"] * 3, [True, True, True]),
], ids=["stays", "grows", "begins", "restarted", "no label"])  # fmt: skip
def test_an_ending_that_nobody_knows_matters_as_far_as_it_grows(pages, lacks):
    now: list[str] = []
    source = reader(Cluster(answers=lambda _: now[-1]))

    async def reads():
        found = []
        for one in pages:
            now.append(one)
            found.append((await source.read("a")).lacking)
            await asyncio.sleep(10)
        return found

    assert [names.ERROR_RATE in one for one in run(reads())] == lacks


# --- several processes behind one port


async def watched(source: PodReader, number: int) -> list[tuple[float, float]]:
    """Requests and errors of so many reads, as far as there were any."""
    found = []
    for _ in range(number):
        try:
            one = await source.read("a")
        except NoMetrics as error:
            assert "several processes answer behind one port" in str(error)  # noqa: PT017
            return found
        found.append((one.requests, one.errors))
        await asyncio.sleep(0.25)
    return found


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("more", [{}, {"process_start_time_seconds": 1e9}])
@pytest.mark.parametrize("first", [0, 1])
def test_old_errors_of_another_worker_are_never_taken_for_new_ones(more, first):
    """One worker had three errors long ago: the errors that seem to grow are looked at again before they count."""
    pages = itertools.cycle([page(50, 0, **more), page(100, 3, **more)][:: -1 if first else 1])
    found = run(watched(reader(Cluster(answers=pages)), 50))
    assert len(found) <= 1


@pytest.mark.usefixtures("virtual_time")
def test_a_pod_that_is_several_processes_is_not_asked_any_more_until_it_is_restarted():
    cluster = Cluster(pod("a"), answers=itertools.cycle([page(50), page(100)]))
    source = reader(cluster)
    run(source.ready())
    run(watched(source, 10))
    asked = len(cluster.asked)
    with pytest.raises(NoMetrics, match=r"several processes .*look at multiprocess mode\): "):
        run(source.read("a"))
    assert len(cluster.asked) == asked
    cluster.pods, cluster._answers = [pod("a", restarts=1)], lambda _: page(5)
    run(source.ready())
    assert run(source.read("a")).requests == 5


@pytest.mark.usefixtures("virtual_time")
def test_a_restart_goes_on_counting():
    """The old process' counters do not come back, however often it is looked at."""
    pages = iter([page(100), page(110), *[page(0)] * 5, page(40), page(80), page(120), page(160)])
    assert [n for n, _ in run(watched(reader(Cluster(answers=pages)), 7))] == [100, 110, 0, 40, 80, 120, 160]


@pytest.mark.usefixtures("virtual_time")
def test_errors_of_a_pod_that_is_known_cost_no_more_looks():
    grown = iter([page(n) for n in range(LOOKS_KEPT)] + [page(20, 5), page(30, 9)])
    cluster = Cluster(answers=grown)
    assert run(watched(reader(cluster), LOOKS_KEPT + 2))[-1] == (30, 9)


@pytest.mark.usefixtures("virtual_time")
def test_errors_that_are_real_count_from_the_first_look_on():
    counted = SimpleNamespace(requests=0, errors=0)

    def failing(_):
        counted.requests, counted.errors = counted.requests + 10, counted.errors + 10
        return page(counted.requests, counted.errors)

    found = run(watched(reader(Cluster(answers=failing)), 3))
    assert [errors for _, errors in found] == [10, 60, 110]
