"""What a service looks like that nobody has deployed with us yet: from its objects in the cluster. Pure.

What cannot be known is a note for the person, never a guess that nobody sees.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any
from urllib.parse import quote

from handover.adoption.entry import address_of
from handover.adoption.origins import find_origin
from handover.models.containers import find_container
from handover.models.image_reference import BadImage, ImageReference
from handover.plan.traffic import Origin
from handover.ports.kube import PodAnswer
from handover.telemetry.counters import Counters, NoMetrics

Json = dict[str, Any]
COLOUR_KEYS = ("version", "colour", "color", "slot", "deployment")
"""Keys of a selector that blue-green setups use for the colour."""
APP_KEYS = ("app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "k8s-app", "name")
PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
OWN_KEY = "handover-colour"
"""Of the colour, where pods bear every one of `COLOUR_KEYS` already."""
_COLOURS = {"blue": "green", "green": "blue", "a": "b", "b": "a"}
_LETTERS = ("a", "b")
"""Of `_COLOURS`, what may as well be a part of a service: a shard, a zone, a variant."""


class NotAdoptable(ValueError):
    """The service cannot be deployed blue-green as it is; the text says why and what to do."""


@dataclass(frozen=True)
class ServiceObjects:
    """What was read: the Service, the Deployments whose pods it selects, what scales them and leads to them, and what
    one pod said of its metrics by path, or why not.
    """

    service: Json
    deployments: Sequence[Json]
    scalers: Sequence[Json] = ()
    ingresses: Sequence[Json] = ()
    metrics: Mapping[str, Counters | NoMetrics] = field(default_factory=dict)
    metrics_port: int | None = None
    pod: str = ""
    answers: Mapping[str, PodAnswer] = field(default_factory=dict)
    """What that pod answers, by path."""


@dataclass(frozen=True)
class FoundService:
    """``colour``: of the Deployment that serves, "" for a service that was never blue-green."""

    namespace: str
    service: str
    app_label: str
    app: str
    colour_key: str
    colour: str
    other: str
    deployment: Json
    container: str
    image: ImageReference
    port: int
    service_ports: tuple[Json, ...]
    on_nodes: bool
    """Whether who is outside of the cluster reaches it at a port of every node."""
    replicas: int
    cpu_limit: str
    memory_limit: str
    secret: str
    health_path: str
    metrics_path: str
    metrics_port: int
    metrics: str
    origin: Origin | None
    address: str
    """Where clients reach it, as far as the cluster tells."""
    notes: tuple[str, ...]

    @property
    def is_blue_green(self) -> bool:
        return bool(self.colour)

    @property
    def pattern(self) -> str:
        """Names of the two Deployments, with ``{colour}`` for the colour."""
        return _named(str(self.deployment["metadata"]["name"]), self.colour)


def find(seen: ServiceObjects, container: str = "") -> FoundService:
    """Raises `NotAdoptable`.

    :param container: which one is the service, where pods have several
    """
    notes: list[str] = []
    service, spec = seen.service, seen.service["spec"]
    selector: Mapping[str, str] = spec.get("selector") or {}
    name = service["metadata"]["name"]
    if not selector:
        raise NotAdoptable(
            f"Service {name} has no selector: traffic cannot be moved by it. Give it one, or name another"
        )
    deployment = _deployment(name, seen)
    labels: Mapping[str, str] = deployment["spec"]["template"]["metadata"].get("labels") or {}
    serving = deployment["metadata"]["name"]
    colour_key, colour = _colour(name, selector, serving, notes)
    app_label, app = _app(name, {key: value for key, value in selector.items() if key != colour_key})
    if labels.get(app_label) != app:
        raise NotAdoptable(f"the pods of {serving} are not labelled {app_label}={app}")
    if others := [key for key in selector if key not in (app_label, colour_key)]:
        notes.append(
            f"The Service also selects by {', '.join(others)}: both colours have to bear these labels, and no pod of "
            f"anything else may bear {app_label}: {app}."
        )
    chosen = _container(deployment, container, spec)
    image = _image(chosen["image"], notes)
    port = _port(spec, chosen, notes)
    metrics_path, metrics = _metrics(seen, deployment, notes)
    health_path = _health(chosen, port, seen.answers, notes)
    origin = find_origin(seen.answers, health_path, seen.pod, image.tag)
    if origin is None:
        notes.append(
            "No answer says which version gave it, or which pod: at a cutover both serve for traffic.entry_seconds, "
            "and who answered is not looked at. Better: a header with the version, and traffic.origin."
        )
    _scaled(seen, notes)
    address = address_of(service, seen.ingresses, notes)
    limits = (chosen.get("resources") or {}).get("limits") or {}
    for what in ("cpu", "memory"):
        if what not in limits:
            notes.append(f"The container has no limit of {what}: {what}_limit in the plan is a guess.")
    return FoundService(
        namespace=service["metadata"]["namespace"], service=name, app_label=app_label, app=app,
        colour_key=colour_key or _free_key(labels, notes), colour=colour, other=_COLOURS.get(colour, "green"),
        deployment=deployment, container=chosen["name"], image=image, port=port,
        service_ports=tuple(spec.get("ports") or ()), on_nodes=spec.get("type") == "NodePort",
        replicas=int(deployment["spec"].get("replicas", 1)),
        cpu_limit=str(limits.get("cpu", "1")), memory_limit=str(limits.get("memory", "512Mi")), secret=_secret(chosen),
        health_path=health_path, metrics_path=metrics_path,
        metrics_port=seen.metrics_port or port, metrics=metrics, origin=origin, address=address,
        notes=tuple(notes),
    )  # fmt: skip


def _deployment(service: str, seen: ServiceObjects) -> Json:
    serving = [one for one in seen.deployments if one["spec"].get("replicas", 1)]
    if not serving:
        raise NotAdoptable(f"no Deployment with pods stands behind Service {service} (StatefulSets are not deployed)")
    if len(serving) > 1:
        names = ", ".join(sorted(one["metadata"]["name"] for one in serving))
        raise NotAdoptable(f"several Deployments serve behind Service {service}: {names}. One has to serve alone")
    return serving[0]


def _colour(service: str, selector: Mapping[str, str], deployment: str, notes: list[str]) -> tuple[str, str]:
    """Key and value of the colour in a selector; empty when there is none. Raises `NotAdoptable` where it may be one,
    or the name of one part of the service, whose other part a release would replace.
    """
    for key, value in sorted(selector.items(), key=lambda one: one[0] not in COLOUR_KEYS):
        if value not in _COLOURS or key in APP_KEYS or (key not in COLOUR_KEYS and len(selector) == 1):
            continue
        if value in _LETTERS and key not in COLOUR_KEYS:
            raise NotAdoptable(
                f"Service {service} selects {key}: {value}, which may be a colour, or one part of the service beside "
                f"others. Is it a colour, use the label version for it; is it a part, give Service and pods a label of "
                f"their own instead, such as app: {service}, and adopt it again"
            )
        other = _named(deployment, value).format(colour=_COLOURS[value])
        notes.append(
            f"{key}: {value} in the Service's selector is taken for its colour, so a release replaces Deployment "
            f"{other}: make sure that it is of this service, or of none."
        )
        if not _shows(deployment, value):
            notes.append(
                f"Deployment {deployment} does not show its colour: until it is called {deployment}-{value}, or "
                "cluster.deployment is corrected, no release is let in."
            )
        return key, value
    return "", ""


def _shows(deployment: str, colour: str) -> bool:
    """Whether the colour is a part of the name."""
    return bool(_part(colour).search(deployment))


def _named(deployment: str, colour: str) -> str:
    """Names of the two Deployments, with ``{colour}`` for the colour that one of them has."""
    if colour and _shows(deployment, colour):
        return _part(colour).sub(r"\1{colour}\2", deployment, count=1)
    return f"{deployment}-{{colour}}"


def _part(colour: str) -> re.Pattern[str]:
    return re.compile(rf"(^|-){colour}(-|$)")


def _free_key(labels: Mapping[str, str], notes: list[str]) -> str:
    """A label for the colour that says nothing else of the pods yet, as ``version`` does of Istio's."""
    for taken in takewhile(labels.__contains__, COLOUR_KEYS):
        notes.append(
            f"The pods have a label {taken}: {labels[taken]} already, so the colour's is another one. In the manifest "
            f"it stays as it is, whatever is released: write {taken}: $version there if it has to follow."
        )
    return next((one for one in COLOUR_KEYS if one not in labels), OWN_KEY)


def _app(service: str, selector: Mapping[str, str]) -> tuple[str, str]:
    if not selector:
        raise NotAdoptable(
            f"Service {service} selects by a colour alone: add a label of the application to its selector"
        )
    key = next((one for one in APP_KEYS if one in selector), next(iter(selector)))
    return key, selector[key]


def _container(deployment: Json, wanted: str, service: Json) -> Json:
    """The one that was asked for, or the only one, or the only one with the Service's port."""
    pod: Json = deployment["spec"]["template"]["spec"]
    containers: list[Json] = pod["containers"]
    names = ", ".join(one["name"] for one in containers)
    if wanted:
        if (found := find_container(pod, wanted)) is None:
            raise NotAdoptable(f"there is no container {wanted!r}; there are {names}")
        return found
    if len(containers) == 1:
        return containers[0]
    targets = {one.get("targetPort", one["port"]) for one in service.get("ports") or ()}
    open_there = [
        one for one in containers
        if any({port.get("name"), port["containerPort"]} & targets for port in one.get("ports") or ())
    ]  # fmt: skip
    if len(open_there) != 1:
        raise NotAdoptable(f"which container is the service? Say it with --container: {names}")
    return open_there[0]


def _image(text: str, notes: list[str]) -> ImageReference:
    try:
        found = ImageReference.parse(text)
    except BadImage as error:
        raise NotAdoptable(str(error)) from None
    if not re.fullmatch(r"v?\d+\.\d+\.\d+", found.tag):
        notes.append(
            f"The image's tag {found.tag or '(none)'} is no version: the running one is asked of the service "
            "(traffic.origin), and image.tag says how a release v1.2.3 is tagged."
        )
    return found


def _port(service: Json, container: Json, notes: list[str]) -> int:
    ports = service.get("ports") or ()
    if len(ports) != 1:
        notes.append(f"The Service has {len(ports)} ports; the first one is taken for HTTP.")
    if not ports:
        raise NotAdoptable("the Service has no port")
    if (found := _target(service, [container])) is None:
        target = ports[0].get("targetPort")
        raise NotAdoptable(
            f"the Service sends to the port {target!r}, which container {container['name']} does not name"
        )
    return found


def _target(service: Json, containers: Sequence[Json]) -> int | None:
    """Where these containers take the requests to the Service's first port; None where none of them names it.

    :param service: the ``spec`` of it
    """
    target = next((one.get("targetPort", one["port"]) for one in service.get("ports") or ()), None)
    return _port_named(target, containers)


def _port_named(port: object, containers: Sequence[Json]) -> int | None:
    """A port's number, which may be that already; None where none of these containers has one of this name."""
    if isinstance(port, int):
        return port
    ports = [one for container in containers for one in container.get("ports") or ()]
    return next((int(one["containerPort"]) for one in ports if one.get("name") == port), None)


def _health(container: Json, port: int, answers: Mapping[str, PodAnswer], notes: list[str]) -> str:
    """What the first probe over HTTP asks for. Raises `NotAdoptable` for pods that speak HTTPS where they are asked.

    :param answers: what a pod answers at the served port, by path
    """
    for probe in PROBES:
        if get := (container.get(probe) or {}).get("httpGet"):
            if probe != "readinessProbe":
                notes.append(f"There is no readinessProbe over HTTP: health.path is that of the {probe}.")
            path, asked = as_asked(get.get("path")), get.get("port", port)
            elsewhere = asked != port and _port_named(asked, [container]) != port
            if get.get("scheme") == "HTTPS" and not elsewhere:
                raise NotAdoptable(
                    f"the pods speak HTTPS at port {port} ({probe}), and every pod is asked over plain HTTP: give the "
                    "container a plain port besides, and the Service's first port that as its targetPort"
                )
            if elsewhere and path not in answers:
                notes.append(
                    f"The {probe} asks port {asked} for {path}, and at port {port}, where clients are served, no pod "
                    "answered that: write a path into health.path, health.key_endpoints and performance.paths that is "
                    "answered there."
                )
            if sent := ", ".join(one["name"] for one in get.get("httpHeaders") or ()):
                notes.append(f"The {probe} sends {sent}, which nobody else does: health.path has to answer without.")
            return path
    notes.append("No probe asks over HTTP: health.path is a guess, and pods need a readinessProbe before a cutover.")
    return "/health"


def _secret(container: Json) -> str:
    named = [one["secretRef"]["name"] for one in container.get("envFrom") or () if "secretRef" in one]
    return str(named[0]) if named else ""


def _metrics(seen: ServiceObjects, deployment: Json, notes: list[str]) -> tuple[str, str]:
    """Path, and what was recognised there."""
    for path, said in seen.metrics.items():
        if isinstance(said, Counters):
            notes.extend(f"The metrics do not tell {what}: {why}." for what, why in said.lacking.items())
            return path, said.metric
    why = "; ".join(f"{path}: {said}" for path, said in seen.metrics.items()) or "no pod could be asked"
    notes.append(
        f"No metrics were recognised ({why}). A release is judged by our own requests alone, which under measures is "
        "said; better: say under pod_metrics where they are and what counts."
    )
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return as_asked(annotations.get("prometheus.io/path", "/metrics")), ""


def _scaled(seen: ServiceObjects, notes: list[str]) -> None:
    for scaler in seen.scalers:
        spec = scaler["spec"]
        notes.append(
            f"HorizontalPodAutoscaler {scaler['metadata']['name']} scales {spec['scaleTargetRef']['name']} from "
            f"{spec.get('minReplicas', 1)} to {spec['maxReplicas']} pods: it needs a twin for the other colour."
        )


def health_paths(deployment: Json) -> tuple[str, ...]:
    """What the probes of its containers ask for."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    gets = [(one.get(probe) or {}).get("httpGet") for one in containers for probe in PROBES]
    return tuple(dict.fromkeys(as_asked(get.get("path")) for get in gets if get))


def as_asked(path: object) -> str:
    """A path as it is asked for: from ``/`` on, without a fragment, encoded where a URL has to be."""
    text = quote(str(path or "/").partition("#")[0].strip(), safe=string.punctuation)
    return text if text.startswith("/") else f"/{text}"


def target_port(service: Json, pod: Json) -> int | None:
    """Where a pod takes the requests to the Service's first port."""
    return _target(service["spec"], pod["spec"]["containers"])


def metrics_paths(deployment: Json) -> tuple[str, ...]:
    """Where a pod may have its metrics: where it says so, then where they usually are."""
    said = (deployment["spec"]["template"]["metadata"].get("annotations") or {}).get("prometheus.io/path")
    return tuple(dict.fromkeys([*([as_asked(said)] if said else []), "/metrics", "/actuator/prometheus"]))
