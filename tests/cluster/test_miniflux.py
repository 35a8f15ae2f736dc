"""A service that nobody here wrote, on a real Kubernetes: brought to two colours and moved between them under load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import httpx
import pytest

from handover.adapters import public_http
from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.coordination.routing import DEPLOYMENTS
from handover.coordination.size import until_full
from handover.plan.load import load_plan
from handover.plan.model import Plan
from handover.plan.parts import PLANS_VARIABLE
from handover.workload.manifests import deployment
from sandbox.bench import Eyes
from sandbox.cutover import ROLLBACKS, SWITCHES, moves_of
from sandbox.others.miniflux import FIRST, MINIFLUX
from sandbox.others.service import REPLICAS
from sandbox.stack import Sandbox
from tests.support.until import until

pytestmark = pytest.mark.cluster
ENTRY_SECONDS = 1.0
"""Clients meet the nodes; answers do not tell their version, so both serve for so long."""
PARTS = ("kubernetes", "primary", "metadata")


@pytest.fixture(scope="module")
def sandbox(real_cluster, tmp_path_factory) -> Iterator[Sandbox]:
    """Miniflux as it stands before anybody deploys it with us, and an empty folder of plans."""
    folder = tmp_path_factory.mktemp("miniflux")
    plans = folder / "include" / "plans"
    plans.mkdir(parents=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        Sandbox(folder / "home", small=True, plans=plans, only=PARTS, cluster=real_cluster) as running,
    ):
        patch.setenv(PLANS_VARIABLE, str(plans))
        MINIFLUX.add_images(running.settings)
        MINIFLUX.begin(running.settings)
        yield running


@pytest.fixture(scope="module")
def brought(sandbox) -> tuple[list[int], Plan]:
    """What clients were answered meanwhile, and its plan."""
    url = MINIFLUX.url(sandbox.settings)
    until(lambda: answers(f"{url}/healthcheck"), "Miniflux to answer, whose pods are ready before it listens")
    with Eyes(url, "/healthcheck") as eyes:
        person = MINIFLUX.bring(sandbox.settings)
    print(*person.typed, f"{person.lines} lines by hand", sep="\n")
    traffic = {"entry_seconds": ENTRY_SECONDS}
    plan = load_plan(sandbox.settings.plans / "miniflux.yaml")
    return [one.status for one in eyes.seen], plan.model_copy(
        update={"traffic": plan.traffic.model_copy(update=traffic)}
    )


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).is_success
    return False


def test_two_commands_bring_it_to_two_colours_and_lose_no_request(brought):
    statuses, _ = brought
    print(f"{len(statuses)} requests while it was brought to two colours")
    assert len(statuses) > 100
    assert [(at, status) for at, status in enumerate(statuses) if status != 200] == []


def test_many_cutovers_and_aborts_lose_no_request(sandbox, brought):
    url, (_, plan) = MINIFLUX.url(sandbox.settings), brought
    kubeconfig = sandbox.settings.home / f"{MINIFLUX.name}.kubeconfig"

    async def moves():
        async with (
            connect_with_kubeconfig(str(kubeconfig), plan.cluster.namespace) as kube, public_http.at(url) as public
        ):  # fmt: skip
            green = deployment(plan, "green", f"v{FIRST}", f"{MINIFLUX.image}:{FIRST}", REPLICAS)
            await kube.apply(DEPLOYMENTS, green)
            await until_full(kube, plan.cluster.deployment_of("green"), REPLICAS, 120)
            with Eyes(url, "/healthcheck") as eyes:
                done = await moves_of(kube, plan, public)
            return done, eyes

    done, eyes = asyncio.run(moves())
    lost = [one for one in eyes.seen if one.status != 200]
    print(f"{len(done)} moves: {len(eyes.seen)} requests, {len(lost)} lost or bad")
    assert len(done) == SWITCHES + ROLLBACKS
    assert lost == []
