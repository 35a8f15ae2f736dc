"""Brings a service that was never blue-green to two colours, and loses no request on the way.

The first colour serves beside what was there until all of it is ready and answers; then the Service sends to it alone;
then what was there is scaled to 0. Every step looks at what is there already, so whoever was killed runs it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from handover.coordination import lock
from handover.coordination.routing import (
    DEPLOYMENTS,
    NotReady,
    full,
    is_ready,
    patiently,
    ready_pods,
    shortage,
    until_behind,
)
from handover.coordination.size import declared, until_full
from handover.kube.reasons import of_deployment, told
from handover.models.annotations import notes
from handover.plan.text import documents
from handover.ports.kube import Conflict, KubeError, NotFound

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Router

SERVICES = "services"
HOLDER = "adoption"
"""Who holds the lock meanwhile: no deployment begins beside it."""
POLL_SECONDS = 1.0
Say = Callable[[str], None]
Idle = Callable[[str], Awaitable[str]]
"""Waits until the pods of the Deployment of that name serve nobody any more, and says how that is known."""


class CannotPrepare(ValueError):
    """Something is not as it was when the manifests were written, or is not known; the text says what to do."""


@dataclass(frozen=True)
class First:
    """What was written for a service: ``deployment``: its first colour, None where it has colours already;
    ``instead_of``: the Deployment that serves until then.
    """

    preview: Json
    colour: str
    deployment: Json | None = None
    instead_of: str = ""


def read_first(plan: Plan, text: str) -> First:
    """The manifests that ``adopt --write`` has written. Raises `CannotPrepare` for what it does not write."""
    try:
        objects = [one for one in documents(text) if one]
        found: dict[tuple[str, str], Json] = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        spaces = {one["metadata"].get("namespace") for one in objects}
        cluster, service = plan.cluster, found.pop(("Service", plan.cluster.preview_service), None)
        if service is None or spaces != {cluster.namespace} or len(objects) != len(found) + 1:
            raise CannotPrepare(f"it has to have Service {cluster.preview_service}, all of it in {cluster.namespace}")
        colour = str(service["spec"]["selector"].get(cluster.colour_key))
        first = found.pop(("Deployment", cluster.deployment_of(colour)), None) if colour in cluster.colours else None
        if found:
            raise CannotPrepare(f"it has more than that and the first colour: {' '.join(next(iter(found)))}")
        if service["spec"]["selector"] != cluster.selector_of(colour):
            raise CannotPrepare(f"Service {cluster.preview_service} has to select {cluster.selector_of(colour)}")
        if first is None:
            return First(service, colour)
        if first["spec"]["selector"].get("matchLabels") != cluster.selector_of(colour):
            raise CannotPrepare(f"{first['metadata']['name']} has to select {cluster.selector_of(colour)}")
        if not (old := notes(first).get("instead-of", "")):
            raise CannotPrepare("it does not say which Deployment serves until now (handover/instead-of): adopt again")
        _images(first)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise CannotPrepare(f"it is no manifest of Kubernetes ({type(error).__name__})") from None
    return First(service, colour, first, old)


@dataclass(frozen=True)
class Preparation:
    """``overlap_seconds``: how long both serve at least, for whatever before the Service lets pods in after checks of
    its own; ``idle``: see `Idle`.
    """

    kube: Kube
    router: Router
    plan: Plan
    first: First
    say: Say
    idle: Idle
    overlap_seconds: float

    async def look(self) -> list[str]:
        """What is left to do; nothing is changed. Raises `CannotPrepare` and `KubeError`."""
        steps = [] if await self._preview() else [f"apply Service {self.plan.cluster.preview_service}"]
        if self.first.deployment is None:
            return steps
        cluster, name = self.plan.cluster, self.first.deployment["metadata"]["name"]
        service, old = await asyncio.gather(
            self.kube.get(SERVICES, cluster.service), self.kube.find(DEPLOYMENTS, self.first.instead_of)
        )
        if not await self._serves_alone(service):
            await self._first_or_refuse(service, old)
            steps += [
                f"apply Deployment {name} and wait until its pods are ready and answer",
                f"Service {cluster.service} sends to {self.first.colour} alone",
            ]
        if declared(old):
            steps.append(f"scale Deployment {self.first.instead_of} to 0 once it serves nobody")
        return steps

    async def run(self) -> None:
        """Raises `CannotPrepare`, `NotReady`, `lock.Locked` and `KubeError`; then it may be run again."""
        name = self.plan.lock_name
        if not await self.look():
            generation, holder = await lock.look(self.kube, name)
            if holder == HOLDER:  # of one that was killed before it gave it back
                await lock.release(self.kube, name, generation)
            self.say("there is nothing to do: both colours are as the plan has them")
            return
        generation = await lock.acquire(self.kube, name, HOLDER, f"two colours for {self.plan.cluster.service}")
        try:
            await self._steps()
        finally:
            await lock.release(self.kube, name, generation)

    async def _steps(self) -> None:
        if not await self._preview():
            await self.kube.apply(SERVICES, self.first.preview)
            self.say(f"applied Service {self.plan.cluster.preview_service}")
        if self.first.deployment is None:
            return
        while not await self._serves_alone(await self.kube.get(SERVICES, self.plan.cluster.service)):
            with suppress(Conflict):  # somebody has changed the Service since it was read: look again
                await self._take_over()
        await self._scale_down()

    # --- what is there

    async def _preview(self) -> bool:
        """Whether the preview Service is there. Raises `CannotPrepare` for another one of its name."""
        there = await self.kube.find(SERVICES, self.plan.cluster.preview_service)
        shown = [self.plan.cluster.selector_of(colour) for colour in self.plan.cluster.colours]
        if there and there["spec"].get("selector") not in shown:
            raise CannotPrepare(
                f"Service {self.plan.cluster.preview_service} is there already and selects "
                f"{there['spec'].get('selector')}: give cluster.preview_service of the plan another name"
            )
        return there is not None

    async def _serves_alone(self, service: Json) -> bool:
        """Whether the Service sends to the first colour alone. Raises `CannotPrepare` for anything but that or both."""
        cluster, selector = self.plan.cluster, service["spec"].get("selector") or {}
        colour = selector.get(cluster.colour_key)
        if unfit := (await self.router.read()).unfit:
            raise CannotPrepare(f"Service {cluster.service}: {unfit}")
        if colour not in (None, *cluster.colours):
            raise CannotPrepare(f"Service {cluster.service} selects {cluster.colour_key}: {colour}, no colour of ours")
        if colour not in (None, self.first.colour):
            raise CannotPrepare(f"Service {cluster.service} sends to {colour} already: it was deployed since")
        return colour is not None

    async def _first_or_refuse(self, service: Json, old: Json | None) -> Json:
        """The first colour as it is to be applied: no smaller than what serves, and of the same images."""
        first, was = self.first.deployment, self.first.instead_of
        assert first is not None
        if old is None:
            raise CannotPrepare(f"Deployment {was} is gone, and Service {service['metadata']['name']} has no colour")
        if _images(old) != _images(first):
            raise CannotPrepare(f"Deployment {was} has other images than when it was adopted: adopt it again")
        labels = first["spec"]["template"]["metadata"]["labels"]
        if not service["spec"]["selector"].items() <= labels.items():
            raise CannotPrepare(f"Service {service['metadata']['name']} would not select {first['metadata']['name']}")
        there = await self.kube.find(DEPLOYMENTS, first["metadata"]["name"])
        if there and (there["spec"]["selector"] != first["spec"]["selector"] or _images(there) != _images(first)):
            raise CannotPrepare(f"Deployment {first['metadata']['name']} is there already, and is not what was written")
        serve = [pod for pod in await self.kube.list("pods", service["spec"]["selector"]) if is_ready(pod)]
        ours = await ready_pods(self.kube, self.plan.cluster.selector_of(self.first.colour))
        pods = max(declared(first), declared(old), declared(there), len(serve) - len(ours))
        return first | {"spec": first["spec"] | {"replicas": pods}}

    # --- what is done

    async def _take_over(self) -> None:
        """From what was there to the first colour. Raises `Conflict` where the Service was changed meanwhile."""
        cluster, colour = self.plan.cluster, self.plan.cluster.selector_of(self.first.colour)
        service, old = await asyncio.gather(
            self.kube.get(SERVICES, cluster.service), self.kube.find(DEPLOYMENTS, self.first.instead_of)
        )
        body = await self._first_or_refuse(service, old)
        name, pods = body["metadata"]["name"], declared(body)
        await self.kube.apply(DEPLOYMENTS, body)
        self.say(f"applied Deployment {name}; waiting for its {pods} pods, which serve beside {self.first.instead_of}")
        try:
            await until_full(self.kube, name, pods, cluster.rollout_timeout_seconds, pause=POLL_SECONDS)
        except NotReady as error:
            raise NotReady(f"{error}; {await self._why(name)}Service {cluster.service} was not changed") from None
        await self._until_both_serve(colour)
        self.say(f"{name} serves beside {self.first.instead_of}, for {self.overlap_seconds:g} s at least")
        await asyncio.sleep(self.overlap_seconds)
        await patiently(partial(full, self.kube, name, pods))
        await self._answers(colour)
        selector = {cluster.colour_key: self.first.colour}
        read = {"resourceVersion": service["metadata"]["resourceVersion"]}
        await self.kube.merge(SERVICES, cluster.service, {"metadata": read, "spec": {"selector": selector}})
        self.say(f"Service {cluster.service} sends to {self.first.colour} alone")

    async def _until_both_serve(self, colour: dict[str, str]) -> None:
        seconds = self.plan.traffic.endpoint_timeout_seconds
        every = dict((await self.kube.get(SERVICES, self.plan.cluster.service))["spec"]["selector"])
        await until_behind(self.kube, self.router, [every, colour], seconds)
        await self._answers(colour)

    async def _answers(self, colour: dict[str, str]) -> None:
        """Raises `NotReady` where a new pod does not answer what the plan asks for its health, ready or not."""
        for pod in sorted(await ready_pods(self.kube, colour)):
            try:
                await patiently(partial(self.kube.proxied, pod, self.plan.cluster.port, self.plan.health.path))
            except KubeError as error:
                raise NotReady(
                    f"{pod} answers {self.plan.health.path} with {error.status or 'nothing'}; "
                    f"Service {self.plan.cluster.service} was not changed. health.path of the plan says what is asked"
                ) from None

    async def _why(self, name: str) -> str:
        with suppress(KubeError):
            deployment = await self.kube.get(DEPLOYMENTS, name)
            pods = await self.kube.list("pods", self.plan.cluster.selector_of(self.first.colour))
            if shortage(deployment, 0) and (said := told(of_deployment(deployment, pods))):
                return f"{said}; "
        return ""

    async def _scale_down(self) -> None:
        """What was there, once nobody is served by it. An autoscaler leaves alone what has 0 pods."""
        old, cluster = self.first.instead_of, self.plan.cluster
        colour = cluster.selector_of(self.first.colour)
        if not declared(await self.kube.find(DEPLOYMENTS, old)):
            return
        await until_behind(self.kube, self.router, [colour], cluster.rollout_timeout_seconds)
        self.say(f"waiting until {old} serves nobody any more")
        how = await self.idle(old)
        while True:
            try:
                read = (await self.kube.get(DEPLOYMENTS, old))["metadata"]["resourceVersion"]
                if not await self._serves_alone(await self.kube.get(SERVICES, cluster.service)):
                    raise CannotPrepare(f"Service {cluster.service} sends to both again: {old} is not scaled down")
                change: dict[str, Any] = {"metadata": {"resourceVersion": read}, "spec": {"replicas": 0}}
                await self.kube.merge(DEPLOYMENTS, old, change)
            except Conflict:
                continue  # somebody has changed the Deployment since it was read
            except NotFound:
                pass
            self.say(f"scaled Deployment {old} to 0: {how}")
            return


def _images(deployment: Json) -> dict[str, str]:
    pod = deployment["spec"]["template"]["spec"]
    return {one["name"]: one["image"] for one in [*pod["containers"], *(pod.get("initContainers") or ())]}
