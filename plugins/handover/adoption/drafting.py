"""The plan, the manifest of a colour, and what has to be applied once, for a service that was found. Pure."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import dataclass
from string import Template
from typing import Any

import yaml

from handover.adoption.entry import within
from handover.adoption.findings import FoundService, Json, NotAdoptable
from handover.models import names
from handover.models.containers import container_of
from handover.models.image_reference import HUB, ImageReference
from handover.plan.model import INCLUDE
from handover.plan.parts import NAME
from handover.plan.traffic import Origin

BLIND_SECONDS = 10.0
"""How long both versions serve at a cutover where answers do not say who gave them."""
NODE_PORT = "NodePort"
PREVIEW = "-preview"
NOTHING = "nothing was recognised there"
VERSION, INSTEAD_OF = "handover/version", "handover/instead-of"
FIRST = "blue"
"""The colour of a service that has none yet."""
_OF_THE_CLUSTER = ("pod-template-hash", "controller-revision-hash")


@dataclass(frozen=True)
class Shared:
    """Connections that this Airflow has for another plan already, and that are the same for this one; "" for none."""

    airflow: str = ""
    registry: str = ""


def plan(found: FoundService, name: str, shared: Shared = Shared()) -> str:
    """The plan file. Raises `NotAdoptable` for a name that no plan can have."""
    if not re.fullmatch(NAME, name):
        raise NotAdoptable(
            f"no plan can be called {name!r}: give it another with --name, of at most 40 small letters, digits and _"
        )
    notes = "".join(f"# - {' '.join(note.split())}\n" for note in found.notes)
    return Template((INCLUDE / "adopt" / "plan.yaml").read_text(encoding="utf-8")).substitute(
        {key: scalar(value) for key, value in _values(found, name, shared).items()},
        prefix=name, port=found.port, replicas=found.replicas, metrics_port=found.metrics_port,
        colours=", ".join(map(scalar, (found.colour or FIRST, found.other))), metrics=found.metrics or NOTHING,
        origin=_origin(found.origin), measures="" if found.metrics else _WITHOUT_PODS,
        secret=f"  settings_secret: {scalar(found.secret)}\n" if found.secret else "",
        notes=f"#\n# What could not be known, or has to be looked at:\n{notes}" if notes else "",
    )  # fmt: skip


def _values(found: FoundService, name: str, shared: Shared) -> dict[str, str]:
    return {
        "name": name, "registry": shared.registry or f"{name}_registry", "airflow": shared.airflow or f"{name}_airflow",
        "title": found.service, "namespace": found.namespace, "repository": found.image.repository,
        "app_label": found.app_label, "app": found.app, "colour_key": found.colour_key, "service": found.service,
        "preview": preview_name(found), "pattern": found.pattern, "container": found.container,
        "cpu_limit": found.cpu_limit, "memory_limit": found.memory_limit, "manifest": manifest_name(name),
        "health_path": found.health_path, "metrics_path": found.metrics_path,
        "tag": "{number}" if found.image.tag[:1].isdecimal() else "{version}",
    }  # fmt: skip


def scalar(text: str) -> str:
    """A text in YAML, wherever a value may stand: in quotes where it would be read as anything else."""
    return yaml.safe_dump([text], default_flow_style=True, width=sys.maxsize, allow_unicode=True).strip()[1:-1]


_WITHOUT_PODS = "\n# Nobody knows how the pods answer: only what we ask ourselves is judged.\nmeasures:\n" + "".join(
    f"  - {{name: {name}, source: {names.PODS}, phases: []}}\n" for name in (names.ERROR_RATE, names.P99, names.P50)
)


def _origin(found: Origin | None) -> str:
    if found is None:
        return f"null\n  entry_seconds: {BLIND_SECONDS:g}"
    return json.dumps(found.model_dump(exclude_defaults=True))


def preview_name(found: FoundService) -> str:
    return f"{found.service[: 63 - len(PREVIEW)].rstrip('-')}{PREVIEW}"


def manifest_name(name: str) -> str:
    return f"{name}.yaml"


def manifest(found: FoundService) -> str:
    """The Deployment that serves, as the template of both colours."""
    labels = {found.app_label: "$app", found.colour_key: "$colour"}
    body = _colour_of(found, labels)
    body["metadata"] |= {"name": "$name", "annotations": {VERSION: "$version"}}
    body["spec"] |= {"replicas": "$replicas", "progressDeadlineSeconds": "$deadline"}
    template = body["spec"]["template"]
    template["metadata"]["annotations"] = template["metadata"].get("annotations", {}) | {VERSION: "$version"}
    container_of(template["spec"], found.container)["image"] = "$image"
    head = (
        f"# One colour of {found.service}, as {found.deployment['metadata']['name']} was. Placeholders are filled in.\n"
    )
    return head + _yaml(body)


def to_apply(found: FoundService) -> str:
    """What the cluster lacks: the preview Service, and the first colour of a service that has none yet."""
    colour = found.colour or FIRST
    ports = [{k: v for k, v in port.items() if k != "nodePort"} for port in found.service_ports]
    spec: Json = {"selector": {found.app_label: found.app, found.colour_key: colour}, "ports": ports}
    preview: Json = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": preview_name(found), "namespace": found.namespace},
        "spec": spec | ({"type": NODE_PORT} if found.on_nodes else {}),
    }  # fmt: skip
    objects = [preview]
    if not found.is_blue_green:
        first = _colour_of(found, {found.app_label: found.app, found.colour_key: colour}, escape=False)
        first["metadata"] |= {
            "name": found.pattern.format(colour=colour), "namespace": found.namespace,
            "annotations": {INSTEAD_OF: found.deployment["metadata"]["name"]},
        }  # fmt: skip
        first["spec"]["replicas"] = found.replicas
        objects.append(first)
    return "---\n".join(_yaml(one) for one in objects)


def connections(found: FoundService, name: str, kubeconfig: str, shared: Shared = Shared()) -> str:
    """What `airflow connections import` takes; secrets are empty. ``kubeconfig``: the file that adopted it."""
    port = next((one["port"] for one in found.service_ports), 80)
    preview = within(preview_name(found), found.namespace, port)
    known: Json = {
        "registry": {"conn_type": "http", "host": _registry(found.image), "login": "", "password": ""},
        "kubernetes": {"conn_type": "kubernetes", "extra": {"kube_config_path": kubeconfig}},
        "api": {"conn_type": "http", "host": found.address},
        "preview": {"conn_type": "http", "host": preview},
        "airflow": {"conn_type": "http", "host": "http://localhost:8080", "login": "", "password": ""},
    }
    own = {f"{name}_{what}": one for what, one in known.items() if not getattr(shared, what, "")}
    return json.dumps(own, indent=2) + "\n"


def _registry(image: ImageReference) -> str:
    return "https://registry-1.docker.io" if image.registry == HUB else f"https://{image.registry}"


def _colour_of(found: FoundService, labels: dict[str, str], *, escape: bool = True) -> Json:
    """A Deployment of its own with the pods that serve, and these labels besides theirs."""
    spec = copy.deepcopy(found.deployment["spec"])
    spec = _escaped(spec) if escape else spec
    template = spec["template"]
    kept = {k: v for k, v in (template["metadata"].get("labels") or {}).items() if k not in _OF_THE_CLUSTER}
    annotations = {
        k: v
        for k, v in (template["metadata"].get("annotations") or {}).items()
        if not k.startswith("kubectl.kubernetes.io/")
    }
    template["metadata"] = {"labels": kept | labels} | ({"annotations": annotations} if annotations else {})
    spec["selector"] = {"matchLabels": dict(labels)}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": dict(labels)}, "spec": spec,
    }  # fmt: skip


def _escaped(value: Any) -> Any:
    """The same with every dollar doubled, since a template stands for it."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return value


def _yaml(body: Json) -> str:
    return yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)
