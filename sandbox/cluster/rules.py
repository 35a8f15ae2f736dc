"""What the API server adds to an object it is given (defaults) and what it refuses (validation).

Only the rules that somebody could trip over are here: names, labels, selectors, containers, ports, probes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from sandbox.cluster.errors import invalid
from sandbox.cluster.kinds import DEPLOYMENT, JOB, NAMESPACE, POD, REPLICA_SET, SECRET, SERVICE, Kind
from sandbox.cluster.selectors import workload_selects
from sandbox.cluster.store import Object

Problem = tuple[str, str]

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_SUBDOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")

_PROBE = {"periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
_DEFAULTS: dict[Kind, dict[str, Any]] = {
    SERVICE: {"type": "ClusterIP", "sessionAffinity": "None"},
    DEPLOYMENT: {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {}},
    REPLICA_SET: {"replicas": 1},
    JOB: {"backoffLimit": 6, "completions": 1, "parallelism": 1},
}
_IMMUTABLE = {
    POD: ("containers", "restartPolicy", "nodeName"),
    SERVICE: ("clusterIP",),
    DEPLOYMENT: ("selector",),
    REPLICA_SET: ("selector",),
    JOB: ("selector", "template"),
}


def set_defaults(kind: Kind, obj: Object) -> None:
    spec = _map(obj.get("spec"))
    _fill(spec, **_DEFAULTS.get(kind, {}))
    if kind is SECRET:
        _fill(obj, type="Opaque")
        plain = obj.pop("stringData", None) or {}
        if plain:
            encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in plain.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
    elif kind is SERVICE:
        for port in spec.get("ports") or ():
            _fill(port, protocol="TCP", targetPort=port.get("port"))
    elif kind in (POD, DEPLOYMENT, REPLICA_SET, JOB):
        _pod_defaults(spec if kind is POD else _map(_map(spec.get("template")).get("spec")))
    if kind is DEPLOYMENT and spec:
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {}, **_map(spec["strategy"])}
        _fill(spec["strategy"]["rollingUpdate"], maxSurge="25%", maxUnavailable="25%")


def _pod_defaults(spec: dict[str, Any]) -> None:
    if not spec:
        return
    _fill(spec, restartPolicy="Always", terminationGracePeriodSeconds=30)
    for container in spec.get("containers") or ():
        _fill(container, imagePullPolicy="IfNotPresent", resources={})
        for port in container.get("ports") or ():
            _fill(port, protocol="TCP")
        _fill(container.get("readinessProbe") or {}, **_PROBE)


def _fill(target: dict[str, Any], **defaults: Any) -> None:
    for field, value in defaults.items():
        if target.get(field) is None and value is not None:
            target[field] = value.copy() if isinstance(value, dict) else value


def _map(value: Any) -> dict[str, Any]:
    """The map that should stand there; without one, what is in it is missing."""
    return value if isinstance(value, dict) else {}


# --- validation


def validate(kind: Kind, new: Object, old: Object | None) -> None:
    """Raise 422 with everything that is wrong with `new` (and with changing `old` into it)."""
    problems = list(_metadata(kind, new["metadata"]))
    spec, before = _map(new.get("spec")), _map((old or {}).get("spec"))
    checks = {POD: _pod, SERVICE: _service, DEPLOYMENT: _workload, REPLICA_SET: _workload, JOB: _job}
    if not problems and kind in checks:
        problems += checks[kind](spec)
    if kind is SECRET:
        problems += _secret(_map(new.get("data")))
    for field in _IMMUTABLE.get(kind, ()) if old else ():
        if spec.get(field) != before.get(field):
            problems.append((f"spec.{field}", "Invalid value: field is immutable"))
    if problems:
        raise invalid(kind.name, new["metadata"]["name"], *problems)


def _metadata(kind: Kind, meta: dict[str, Any]) -> Iterator[Problem]:
    if not (_LABEL if kind in (NAMESPACE, SERVICE) else _SUBDOMAIN).match(meta["name"]):
        yield "metadata.name", f'Invalid value: "{meta["name"]}": must be lower case alphanumeric, "-" or "."'
    for field in ("labels", "annotations"):
        for key, value in (meta.get(field) or {}).items():
            if not isinstance(value, str) or (field == "labels" and not _VALUE.match(value)):
                yield f"metadata.{field}", f"Invalid value of {key}: {value!r}"


def _pod(spec: dict[str, Any]) -> Iterator[Problem]:
    containers = spec.get("containers") or []
    if len(containers) != 1 or spec.get("initContainers"):
        yield "spec.containers", "Required value: exactly one container is what this stand-in runs in a pod"
    for container in containers:
        if not _LABEL.match(container.get("name") or ""):
            yield "spec.containers[0].name", f"Invalid value: {container.get('name')!r}"
        if not container.get("image"):
            yield "spec.containers[0].image", "Required value"
        yield from _ports(container.get("ports") or (), "containerPort", "spec.containers[0].ports")
        for variable in container.get("env") or ():
            if not variable.get("name") or not isinstance(variable.get("value", ""), str):
                yield "spec.containers[0].env", f"Invalid value: {variable}: a name and a string are required"
        probe = container.get("readinessProbe", {"exec": {}})
        if ("httpGet" in probe) == ("exec" in probe):
            yield "spec.containers[0].readinessProbe", "must specify exactly one handler type of httpGet, exec"


def _workload(spec: dict[str, Any]) -> Iterator[Problem]:
    labels = _map(_map(_map(spec.get("template")).get("metadata")).get("labels"))
    if not workload_selects(spec.get("selector"), labels):
        yield "spec.selector", f"Invalid value: `matchLabels` has to select the labels of the template, {labels}"
    if not isinstance(spec.get("replicas"), int) or spec["replicas"] < 0:
        yield "spec.replicas", "must be greater than or equal to 0"
    strategy = _map(spec.get("strategy"))
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        yield "spec.strategy.type", f'Unsupported value: "{strategy["type"]}": this stand-in knows "RollingUpdate"'
    yield from _template(spec, "Always")


def _job(spec: dict[str, Any]) -> Iterator[Problem]:
    if (spec.get("completions", 1), spec.get("parallelism", 1)) != (1, 1):
        yield "spec.completions", "Unsupported value: this stand-in runs one pod of a job"
    yield from _template(spec, "OnFailure", "Never")


def _template(spec: dict[str, Any], *policies: str) -> Iterator[Problem]:
    pod = _map(_map(spec.get("template")).get("spec"))
    if pod.get("restartPolicy") not in policies:
        yield "spec.template.spec.restartPolicy", f"Unsupported value: supported values: {', '.join(policies)}"
    yield from ((f"spec.template.{field}", text) for field, text in _pod(pod))


def _service(spec: dict[str, Any]) -> Iterator[Problem]:
    ports = spec.get("ports") or []
    if not ports or (len(ports) > 1 and not all(port.get("name") for port in ports)):
        yield "spec.ports", "Required value: at least one, with a name if there are several"
    yield from _ports(ports, "port", "spec.ports")
    if not all(isinstance(value, str) for value in _map(spec.get("selector")).values()):
        yield "spec.selector", f"Invalid value: {spec['selector']}"


def _ports(ports: Any, field: str, path: str) -> Iterator[Problem]:
    for index, port in enumerate(ports):
        if not isinstance(port.get(field), int) or not 1 <= port[field] <= 65535:
            yield f"{path}[{index}].{field}", "must be between 1 and 65535, inclusive"


def _secret(data: dict[str, Any]) -> Iterator[Problem]:
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            yield f"data[{key}]", "Invalid value: not base64"
