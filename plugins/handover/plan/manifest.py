"""Manifests of Kubernetes with placeholders, as people write them: filled in, and looked at when a plan is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator

from handover.plan.parts import in_include, included
from handover.plan.text import from_yaml

Values = Mapping[str, str | int]
COLOUR: Values = {
    "name": "web-blue", "app": "web", "colour_key": "version", "colour": "blue", "version": "v1.2.3",
    "image": "web:v1.2.3", "replicas": 1, "deadline": 60, "container": "web", "port": 80, "secret": "web",
    "cpu_limit": "1", "memory_limit": "1Gi", "health_path": "/",
}  # fmt: skip
"""What may stand in the Deployment of a colour, each with a value that fits."""
JOB: Values = {key: COLOUR[key] for key in ("name", "app", "container", "image", "secret", "deadline")}
_OPEN = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_BEGIN, _END = "\ue000", "\ue001"
_MARKED = re.compile(f"{_BEGIN}([a-z_]+){_END}")


class BadManifest(ValueError):
    """It cannot become an object of Kubernetes; the text says why and what to do."""


def filled(text: str, values: Values) -> dict[str, Any]:
    """The one object in it. A text stays one, whatever YAML would make of it; a number is one outside of quotes.
    Of the dollars, ``$$`` stands for one, and those that begin no name are the manifest's own: ``$(POD_NAME)``. What is
    null is left out, as Kubernetes has it. Raises `BadManifest`.
    """

    def marked(found: re.Match[str]) -> str:
        escaped, name = found[1], found[2] or found[3]
        if escaped:
            return "$"
        if name not in values:
            there = ", ".join(f"${one}" for one in sorted(values))
            raise BadManifest(f"nothing is called {found[0]}: write ${found[0]} for a $ of its own; there are {there}")
        value = values[name]
        return str(value) if isinstance(value, int) else f"{_BEGIN}{name}{_END}"

    try:
        body = from_yaml(_OPEN.sub(marked, text))
    except yaml.YAMLError as error:
        raise BadManifest(f"it is no YAML of one object: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise BadManifest("it is no object of Kubernetes: begin with apiVersion, kind, metadata and spec")
    made: dict[str, Any] = _unmarked(body, values)
    return made


def _unmarked(value: Any, values: Values) -> Any:
    if isinstance(value, str):
        return _MARKED.sub(lambda found: str(values[found[1]]), value)
    if isinstance(value, list):
        return [_unmarked(one, values) for one in value]
    if isinstance(value, dict):
        return {_unmarked(key, values): _unmarked(one, values) for key, one in value.items() if one is not None}
    return value


def _looked_at(kind: str, values: Values) -> AfterValidator:
    def check(name: str) -> str:
        try:
            body = filled(included("k8s", name).read_text(encoding="utf-8"), values)
            if body.get("kind") != kind:
                raise BadManifest(f"it is of kind {body.get('kind')}, and has to be a {kind}")
            _has_pods(body)
        except UnicodeDecodeError:
            raise ValueError(f"include/k8s/{name}: it is not in UTF-8: save it as that") from None
        except BadManifest as error:
            raise ValueError(f"include/k8s/{name}: {error}") from None
        return name

    return AfterValidator(check)


def _has_pods(body: dict[str, Any]) -> None:
    """Raises `BadManifest` unless metadata, labels and containers are where others look for them."""
    template = _mapping(_mapping(body, "spec"), "template", "spec")
    for one, path in ((body, ""), (template, "spec.template.")):
        for key in ("annotations", "labels"):
            _mapping(_mapping(one, "metadata", path, there=not path), key, f"{path}metadata", there=False)
    containers = _mapping(template, "spec", "spec.template").get("containers")
    if not isinstance(containers, list) or not all(isinstance(one, dict) and "name" in one for one in containers):
        raise BadManifest("spec.template.spec.containers is no list of containers with a name each")


def _mapping(body: dict[str, Any], key: str, where: str = "", *, there: bool = True) -> dict[str, Any]:
    found = body.get(key)
    if found is None and not there:
        return {}
    if not isinstance(found, dict):
        raise BadManifest(f"{'.'.join(filter(None, (where.rstrip('.'), key)))} is no mapping")
    return found


ColourManifest = Annotated[str, in_include("k8s"), _looked_at("Deployment", COLOUR)]
JobManifest = Annotated[str, in_include("k8s"), _looked_at("Job", JOB)]
