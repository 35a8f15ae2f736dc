"""A service that was never blue-green gets there in this order, wherever somebody was killed; or is refused."""

from __future__ import annotations

import asyncio

import pytest
import yaml

from handover.adapters.service_router import ServiceRouter
from handover.adoption import drafting
from handover.adoption.findings import find
from handover.adoption.preparing import CannotPrepare, Preparation, read_first
from handover.coordination import lock
from handover.coordination.routing import NotReady
from handover.ports.kube import KubeError
from tests.adoption.objects import DEPLOYMENT, SERVICE, changed
from tests.adoption.test_drafting import drafted, include  # noqa: F401 - a fixture
from tests.adoption.test_findings import WEB, seen
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.twins.kube import DEPLOYMENTS, SERVICES, TwinCluster, TwinKube

SERVED = 6


class Killed(Exception):
    """What ends a process at once."""


class Mortal(TwinKube):
    """Dies at the call of this number: before it is made, or after it was, with its answer lost."""

    lives = None
    after = False

    async def _travel(self):
        await super()._travel()
        if self.lives is not None:
            object.__setattr__(self, "lives", self.lives - 1)
            if self.lives < 0:
                raise Killed

    def _write(self, key, body):
        written = super()._write(key, body)
        if self.after and self.lives == 0:
            raise Killed
        return written


class Web:
    """The shop as it stands, its plan, and what was written for it."""

    def __init__(self, plan, text):
        self.plan, self.text, self.said, self.order = plan, text, [], []
        self.cluster = TwinCluster(start_seconds=5.0, on_write=self._look)

    async def begin(self):
        kube = self.kube()
        await kube.create(SERVICES, SERVICE)
        await kube.create(DEPLOYMENTS, DEPLOYMENT)
        await asyncio.sleep(10)

    def kube(self, lives=None, after=False):
        kube = Mortal(self.cluster, "shop")
        object.__setattr__(kube, "lives", lives)
        object.__setattr__(kube, "after", after)
        return kube

    def _look(self, key, old, new):
        """At every change as many pods answer as before."""
        if ("begun", None) in self.order:
            assert len(self.cluster.behind("shop", "web")) >= SERVED
        if key[0] in (SERVICES, DEPLOYMENTS):
            self.order.append((key[2], new["spec"].get("replicas")))

    def preparation(self, kube=None):
        kube = kube or self.kube()

        async def idle(name):
            return f"{name} is idle"

        router = ServiceRouter(kube, self.plan.cluster, "web")
        return Preparation(kube, router, self.plan, read_first(self.plan, self.text), self.said.append, idle, 15.0)

    def state(self):
        objects = {key[2]: one for key, one in self.cluster.objects.items()}
        return (
            objects["web"]["spec"].get("replicas"), objects["web-blue"]["spec"]["replicas"],
            self.cluster.objects[SERVICES, "shop", "web"]["spec"]["selector"],
            objects["web-preview"]["spec"]["selector"],
        )  # fmt: skip


DONE = (0, SERVED, {"app": "web", "version": "blue"}, {"app": "web", "version": "blue"})


@pytest.fixture
def web(include, virtual_time):  # noqa: F811
    found = find(seen())
    made = Web(drafted(include, found), drafting.to_apply(found))
    virtual_time.run(made.begin())
    made.order.append(("begun", None))
    return made


def test_the_new_pods_serve_before_the_service_leaves_the_old_ones_which_go_last(web, virtual_time):  # noqa: F811
    assert virtual_time.run(web.preparation().look())[0] == "apply Service web-preview"
    virtual_time.run(web.preparation().run())
    assert web.order[3:] == [
        ("web-preview", None), ("web-blue", SERVED), ("web", None), ("web", 0),
    ]  # fmt: skip
    assert web.state() == DONE
    assert web.said[-1] == "scaled Deployment web to 0: web is idle"
    assert virtual_time.run(lock.holder(web.kube(), web.plan.lock_name)) == ""


def test_done_again_it_changes_nothing(web, virtual_time):  # noqa: F811
    virtual_time.run(web.preparation().run())
    before = len(web.order)
    virtual_time.run(web.preparation().run())
    assert len(web.order) == before
    assert web.said[-1].startswith("there is nothing to do")


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_and_run_again_it_gets_there(include, virtual_time, after):  # noqa: F811
    found = find(seen())
    plan, text = drafted(include, found), drafting.to_apply(found)
    for calls in range(1000):
        web = Web(plan, text)
        virtual_time.run(web.begin())
        web.order.append(("begun", None))
        try:
            virtual_time.run(web.preparation(web.kube(calls, after)).run())
        except Killed:
            virtual_time.run(web.preparation().run())
            assert web.state() == DONE
            assert virtual_time.run(lock.holder(web.kube(), web.plan.lock_name)) == ""
        else:
            break
    assert calls > 20


def test_pods_that_do_not_get_ready_leave_the_service_as_it_was(web, virtual_time):  # noqa: F811
    web.cluster.missing_images.add("registry:5000/shop/web:v1.4.2")
    web.cluster.missing_images.add("istio/proxyv2:1.27.0")
    with pytest.raises(NotReady, match=r"(?s)web-blue has 0 of 6 .* Service web was not changed"):
        virtual_time.run(web.preparation().run())
    assert web.cluster.objects[SERVICES, "shop", "web"]["spec"]["selector"] == {"app": "web"}


def test_pods_that_are_ready_and_do_not_answer_leave_the_service_as_it_was(web, virtual_time):  # noqa: F811
    def broken(*_):
        raise KubeError(503, "no")

    web.cluster.app = broken
    with pytest.raises((NotReady, KubeError)):
        virtual_time.run(web.preparation().run())
    assert web.cluster.objects[SERVICES, "shop", "web"]["spec"]["selector"] == {"app": "web"}


def test_nothing_is_done_beside_a_deployment(web, virtual_time):  # noqa: F811
    virtual_time.run(lock.acquire(web.kube(), web.plan.lock_name, "run-1", "v2.0.0"))
    with pytest.raises(lock.Locked, match=r"run-1 has been deploying"):
        virtual_time.run(web.preparation().run())
    assert [name for name, _ in web.order][-1] == "begun"


def test_a_release_since_it_was_adopted_is_refused(web, virtual_time):  # noqa: F811
    other = changed(DEPLOYMENT, f"{WEB}.image", "registry:5000/shop/web:v1.5.0")
    virtual_time.run(web.kube().merge(DEPLOYMENTS, "web", {"spec": other["spec"]}))
    with pytest.raises(CannotPrepare, match="other images than when it was adopted"):
        virtual_time.run(web.preparation().run())


@pytest.mark.parametrize(("selector", "said"), [
    ({"version": "green"}, "sends to green already"), ({"version": "yellow"}, "no colour of ours"),
])  # fmt: skip
def test_a_service_that_somebody_has_moved_is_refused(web, virtual_time, selector, said):  # noqa: F811
    web.order.clear()  # somebody else moves it, wherever to
    virtual_time.run(web.kube().merge(SERVICES, "web", {"spec": {"selector": selector}}))
    before = len(web.order)
    with pytest.raises(CannotPrepare, match=said):
        virtual_time.run(web.preparation().run())
    assert len(web.order) == before


def test_somebody_elses_preview_service_is_refused(web, virtual_time):  # noqa: F811
    theirs = {"metadata": {"name": "web-preview"}, "spec": {"selector": {"app": "other"}}}
    virtual_time.run(web.kube().create(SERVICES, theirs))
    with pytest.raises(CannotPrepare, match="is there already and selects"):
        virtual_time.run(web.preparation().run())


@pytest.mark.parametrize("text", [
    "", "a: [", "kind: Pod", "[]", "kind: Service\nmetadata: {name: web-preview, namespace: elsewhere}\nspec: {}",
])  # fmt: skip
def test_what_adopt_has_not_written_is_not_applied(web, text):
    with pytest.raises(CannotPrepare):
        read_first(web.plan, text)
    more = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s", "namespace": "shop"}}
    with pytest.raises(CannotPrepare, match="more than that and the first colour: Secret s"):
        read_first(web.plan, f"{web.text}---\n{yaml.safe_dump(more)}")
