"""The router of blue-green with a plain Kubernetes Service: its selector says who serves, its annotations how far the
deployment is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from handover import clock
from handover.models.annotations import FORMER_PREFIX, as_annotations, notes
from handover.ports.router import Route, Stage, both, only

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handover.plan.model import Cluster
    from handover.ports.kube import Json, Kube

SERVICES = "services"
SLICES = "discovery.k8s.io/v1/endpointslices"
SERVICE_LABEL = "kubernetes.io/service-name"
MAX_REASON = 500
FORMER_STAGES = {
    "old": Stage.STABLE, "both": Stage.OVERLAP, "new": Stage.PROMOTED, "back": Stage.ABORTED,
    "settled": Stage.FINALISED,
}  # fmt: skip
"""As they were called under `FORMER_PREFIX`."""


class ServiceRouter:
    """One Service. It can send all traffic to one colour, or to both as they have pods; no other weights."""

    def __init__(self, kube: Kube, cluster: Cluster, service: str) -> None:
        self._kube, self._cluster, self._service = kube, cluster, service
        self.name = f"Service {service}"

    async def read(self) -> Route:
        return self._route(await self._kube.get(SERVICES, self._service))

    async def swap(self, route: Route) -> Route:
        return self._route(await self._kube.merge(SERVICES, self._service, self._patch(route)))

    async def behind(self) -> set[str]:
        slices = await self._kube.list(SLICES, {SERVICE_LABEL: self._service})
        return {
            (endpoint.get("targetRef") or {}).get("name", "")
            for one in slices
            for endpoint in one.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
        }

    def _route(self, service: Json) -> Route:
        found, selector = notes(service), service["spec"].get("selector") or {}
        generation = found.get("generation", "")
        weights = self._weights(selector)
        return Route(
            name=self.name,
            weights=weights,
            generation=int(generation) if generation.isdecimal() else 0,
            stage=_stage(found),
            deployment=found.get("deployment", ""),
            stable=found.get("stable") or found.get("old-colour", ""),
            preview=found.get("preview") or found.get("new-colour", ""),
            reason=found.get("reason", ""),
            exposed_at=_number(found.get("exposed-at")),
            entry_seconds=_number(found.get("entry-seconds")),
            moved_at=_moved_at(found.get("moved-at", ""), weights),
            sticky=service["spec"].get("sessionAffinity") == "ClientIP",
            unfit=self._unfit(service["spec"], selector),
            labels={key: value for key, value in selector.items() if key != self._cluster.colour_key},
            revision=service,
        )

    def _weights(self, selector: Mapping[str, str]) -> dict[str, int]:
        if not selector:
            return {}
        colour = selector.get(self._cluster.colour_key)
        return only(colour) if colour is not None else both(*self._cluster.colours)

    def _unfit(self, spec: Json, selector: Mapping[str, str]) -> str:
        """Whether a change of the selector would move its clients, and theirs alone."""
        key = "preview_service" if self._service == self._cluster.preview_service else "service"
        other = f"name the Service that selects the pods in cluster.{key}"
        if spec.get("type") == "ExternalName":
            return f"it is of type ExternalName and only stands for {spec.get('externalName')}: {other}"
        wanted = self._cluster.selector_of(None)
        if not selector:
            colour = f"{self._cluster.colour_key}: <colour that serves>"
            return (
                "it has no selector, so what is behind it is somebody else's doing: give it the selector "
                f"{_text(wanted)}, {colour} once the pods that serve have these labels, or {other}"
            )
        if spec.get("clusterIP") == "None":
            return (
                "it is headless (clusterIP: None), so clients keep the addresses of pods whatever it selects: "
                f"give them one with a cluster IP, and name that in cluster.{key}"
            )
        if lacking := {key: value for key, value in wanted.items() if selector.get(key) != value}:
            return (
                f"its selector ({_text(selector)}) lacks {_text(lacking)}, and pods without that would be behind it no "
                "more after the switch: give the label to the pods that serve and then to the selector, or correct "
                "cluster.app"
            )
        return ""

    def _patch(self, route: Route) -> Json:
        """A merge patch. The label of the application stays in the selector, so that dropping the colour's never
        selects everything.
        """
        if not route.colour and route.weights != both(*self._cluster.colours):
            raise ValueError(f"a Service cannot weigh: {dict(route.weights)}")
        read = route.revision["metadata"]
        said = as_annotations(
            generation=str(route.generation), deployment=route.deployment, stable=route.stable, preview=route.preview,
            reason=route.reason[:MAX_REASON], stage=route.stage.value if route.stage else None,
            exposed_at=f"{route.exposed_at:.3f}" if route.exposed_at else None,
            entry_seconds=None if route.entry_seconds is None else f"{route.entry_seconds:.3f}",
            **self._moved(route),
        )  # fmt: skip
        former = {key: None for key in read.get("annotations") or {} if key.startswith(FORMER_PREFIX)}
        selector = self._cluster.selector_of(None) | {self._cluster.colour_key: route.colour}
        return {
            "metadata": {"resourceVersion": read["resourceVersion"], "annotations": former | said},
            "spec": {"selector": selector},
        }

    def _moved(self, route: Route) -> dict[str, str]:
        before = self._weights(route.revision["spec"].get("selector") or {})
        return {} if before == route.weights else {"moved_at": f"{clock.epoch():.3f} {_where(route.weights)}"}


def _where(weights: Mapping[str, int]) -> str:
    return "+".join(sorted(weights))


def _moved_at(said: str, weights: Mapping[str, int]) -> float | None:
    """None where somebody else has moved traffic since."""
    at, _, where = said.partition(" ")
    return _number(at) if where == _where(weights) else None


def _text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(labels.items()))


def _number(said: str | None) -> float | None:
    """None as well for what is no number: a note that nobody understands is no note."""
    with suppress(ValueError):
        return float(said) if said else None
    return None


def _stage(found: Mapping[str, str]) -> Stage | None:
    said = found.get("stage") or found.get("traffic", "")
    return Stage(said) if said in set(Stage) else FORMER_STAGES.get(said)
