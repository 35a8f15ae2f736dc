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
from sandbox.cluster.kinds import DEPLOYMENT, JOB, POD, REPLICA_SET, SECRET, SERVICE, Kind
from sandbox.cluster.selectors import workload_selects
from sandbox.cluster.store import Object

Problem = tuple[str, str]

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_SUBDOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_LABEL_KEY = re.compile(r"^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_DATA_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")
_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
_HANDLERS = ("httpGet", "tcpSocket", "exec")


# --- defaults


def set_defaults(kind: Kind, obj: Object) -> None:
    if kind is SECRET:
        _fill(obj, type="Opaque")
        plain = obj.pop("stringData", None) or {}
        if plain:
            encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in plain.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
        return
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if kind is POD:
        _pod_defaults(spec)
    elif kind is SERVICE:
        _service_defaults(spec)
    elif kind in (DEPLOYMENT, REPLICA_SET, JOB):
        _pod_defaults(_map(_map(spec.get("template")).get("spec")))
        if kind is DEPLOYMENT:
            _deployment_defaults(spec)
        elif kind is REPLICA_SET:
            _fill(spec, replicas=1)
        else:
            _fill(spec, backoffLimit=6, completionMode="NonIndexed", suspend=False, parallelism=1)
            _fill(spec, completions=1, podReplacementPolicy="TerminatingOrFailed")


def _deployment_defaults(spec: dict[str, Any]) -> None:
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = _map(spec["strategy"])
    _fill(strategy, type="RollingUpdate")
    if strategy.get("type") == "RollingUpdate":
        _fill(strategy, rollingUpdate={})
        _fill(_map(strategy["rollingUpdate"]), maxSurge="25%", maxUnavailable="25%")


def _pod_defaults(spec: dict[str, Any]) -> None:
    _fill(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst")
    _fill(spec, schedulerName="default-scheduler", securityContext={})
    for container in _containers(spec):
        tagless = ":" not in str(container.get("image", "")).rpartition("/")[2]
        _fill(container, imagePullPolicy="Always" if tagless else "IfNotPresent", resources={})
        _fill(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
        for port in container.get("ports") or ():
            _fill(port, protocol="TCP")
        for probe in (container[name] for name in _PROBES if isinstance(container.get(name), dict)):
            _fill(probe, periodSeconds=10, timeoutSeconds=1, successThreshold=1, failureThreshold=3)
            if isinstance(probe.get("httpGet"), dict):
                _fill(probe["httpGet"], path="/", scheme="HTTP")
        for variable in container.get("env") or ():
            reference = _map(_map(variable.get("valueFrom")).get("fieldRef"))
            if reference:
                _fill(reference, apiVersion="v1")


def _service_defaults(spec: dict[str, Any]) -> None:
    _fill(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    _fill(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    for port in spec.get("ports") or ():
        if isinstance(port, dict) and "port" in port:
            _fill(port, protocol="TCP", targetPort=port["port"])


def _fill(target: dict[str, Any], **defaults: Any) -> None:
    for field, value in defaults.items():
        if target.get(field) is None:
            target[field] = value


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field in ("initContainers", "containers"):
        yield from (item for item in spec.get(field) or () if isinstance(item, dict))


# --- validation


def validate(kind: Kind, new: Object, old: Object | None) -> None:
    """Raise 422 with everything that is wrong with `new` (and with changing `old` into it)."""
    problems = list(_metadata_problems(kind, new["metadata"]))
    checks = {POD: _pod, SERVICE: _service, SECRET: _secret, DEPLOYMENT: _workload, REPLICA_SET: _workload, JOB: _job}
    if not problems and kind in checks:
        problems += checks[kind](new, old)
    if problems:
        raise invalid(kind.name, new["metadata"]["name"], *problems)


def _metadata_problems(kind: Kind, meta: dict[str, Any]) -> Iterator[Problem]:
    name = meta["name"]
    short = kind.name in ("Namespace", "Service")
    if not (isinstance(name, str) and (_LABEL if short else _SUBDOMAIN).match(name)):
        yield (
            "metadata.name",
            f'Invalid value: "{name}": must consist of lower case alphanumeric characters, "-" or "."',
        )
    for field in ("labels", "annotations"):
        for key, value in (meta.get(field) or {}).items():
            if not _LABEL_KEY.match(key):
                yield f"metadata.{field}", f'Invalid value: "{key}": not a valid key'
            elif not isinstance(value, str) or (field == "labels" and not _VALUE.match(value)):
                yield f"metadata.{field}", f"Invalid value: {value!r}"


def _pod(new: Object, old: Object | None) -> Iterator[Problem]:
    spec = _map(new.get("spec"))
    yield from _pod_spec(spec, "spec")
    if old is not None and _fixed_part(spec) != _fixed_part(old["spec"]):
        yield "spec", "Forbidden: pod updates may not change fields other than the containers' images"


def _fixed_part(spec: dict[str, Any]) -> dict[str, Any]:
    """A pod's spec without the few fields that may change while it lives."""
    changeable = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName")
    fixed = {field: value for field, value in spec.items() if field not in changeable}
    for field in ("containers", "initContainers"):
        fixed[field] = [{**container, "image": ""} for container in spec.get(field) or ()]
    return fixed


def _pod_spec(spec: dict[str, Any], path: str) -> Iterator[Problem]:
    if not spec.get("containers"):
        yield f"{path}.containers", "Required value"
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield f"{path}.restartPolicy", f'Unsupported value: "{spec.get("restartPolicy")}"'
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            name = container.get("name")
            if not (isinstance(name, str) and _LABEL.match(name)):
                yield f"{where}.name", "Required value" if not name else f"Invalid value: {name!r}"
            elif name in seen:
                yield f"{where}.name", f'Duplicate value: "{name}"'
            seen.add(str(name))
            yield from _container(container, where)


def _container(container: dict[str, Any], where: str) -> Iterator[Problem]:
    if not container.get("image"):
        yield f"{where}.image", "Required value"
    for index, port in enumerate(container.get("ports") or ()):
        if not _is_port(port.get("containerPort")):
            yield f"{where}.ports[{index}].containerPort", "must be between 1 and 65535, inclusive"
    for index, variable in enumerate(container.get("env") or ()):
        if not isinstance(variable.get("name"), str) or not variable["name"] or "=" in variable["name"]:
            yield f"{where}.env[{index}].name", "Required value"
        elif not isinstance(variable.get("value", ""), str):
            yield f"{where}.env[{index}].value", f"Invalid value: {variable['value']!r}: must be a string"
        elif variable.get("value") and variable.get("valueFrom"):
            yield f"{where}.env[{index}].valueFrom", "may not be specified when `value` is not empty"
    for name in _PROBES:
        probe = container.get(name)
        if probe is not None:
            if sum(handler in probe for handler in _HANDLERS) != 1:
                yield f"{where}.{name}", f"must specify exactly one handler type of {', '.join(_HANDLERS)}"
            if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield f"{where}.{name}.successThreshold", "must be 1"
            for field in ("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"):
                if not isinstance(probe.get(field, 1), int) or probe.get(field, 1) < 1:
                    yield f"{where}.{name}.{field}", "must be greater than or equal to 1"


def _workload(new: Object, old: Object | None) -> Iterator[Problem]:
    spec = _map(new.get("spec"))
    template = _map(spec.get("template"))
    labels = _map(_map(template.get("metadata")).get("labels"))
    if not spec.get("selector"):
        yield "spec.selector", "Required value"
    elif not workload_selects(spec["selector"], labels):
        yield "spec.template.metadata.labels", f"Invalid value: {labels}: `selector` does not match template `labels`"
    if old is not None and spec.get("selector") != old["spec"].get("selector"):
        yield "spec.selector", "Invalid value: field is immutable"
    if not isinstance(spec.get("replicas"), int) or spec["replicas"] < 0:
        yield "spec.replicas", "must be greater than or equal to 0"
    strategy = _map(spec.get("strategy"))
    rolling = _map(strategy.get("rollingUpdate"))
    if strategy.get("type") == "Recreate" and rolling:
        yield "spec.strategy.rollingUpdate", 'Forbidden: may not be specified when strategy `type` is "Recreate"'
    if rolling and all(str(rolling.get(field)) in ("0", "0%") for field in ("maxSurge", "maxUnavailable")):
        yield "spec.strategy.rollingUpdate.maxUnavailable", "may not be 0 when `maxSurge` is 0"
    pod_spec = _map(template.get("spec"))
    if pod_spec.get("restartPolicy", "Always") != "Always":
        yield "spec.template.spec.restartPolicy", 'Unsupported value: supported values: "Always"'
    yield from _pod_spec(pod_spec, "spec.template.spec")


def _job(new: Object, old: Object | None) -> Iterator[Problem]:
    spec = _map(new.get("spec"))
    pod_spec = _map(_map(spec.get("template")).get("spec"))
    if pod_spec.get("restartPolicy") not in ("OnFailure", "Never"):
        yield "spec.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'
    else:
        yield from _pod_spec(pod_spec, "spec.template.spec")
    if old is not None:
        for field in ("template", "selector", "completions"):
            if spec.get(field) != old["spec"].get(field):
                yield f"spec.{field}", "Invalid value: field is immutable"


def _service(new: Object, old: Object | None) -> Iterator[Problem]:
    spec = _map(new.get("spec"))
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None":
        yield "spec.ports", "Required value"
    for index, port in enumerate(ports):
        if not _is_port(port.get("port")):
            yield f"spec.ports[{index}].port", "must be between 1 and 65535, inclusive"
        if len(ports) > 1 and not port.get("name"):
            yield f"spec.ports[{index}].name", "Required value"
        target = port.get("targetPort")
        if isinstance(target, int) and not _is_port(target):
            yield f"spec.ports[{index}].targetPort", "must be between 1 and 65535, inclusive"
    for key, value in _map(spec.get("selector")).items():
        if not isinstance(value, str):
            yield "spec.selector", f"Invalid value for {key}: {value!r}"
    if old is not None and spec.get("clusterIP") != old["spec"].get("clusterIP"):
        yield "spec.clusterIP", "Invalid value: field is immutable"


def _secret(new: Object, old: Object | None) -> Iterator[Problem]:
    if old is not None and new.get("type") != old.get("type"):
        yield "type", "Invalid value: field is immutable"
    for key, value in _map(new.get("data")).items():
        if not _DATA_KEY.match(key):
            yield f"data[{key}]", "Invalid value: not a valid key"
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            yield f"data[{key}]", "Invalid value: not base64"


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value <= 65535
