"""Where a service's answers say which version, or which pod, gave them: found by asking a pod that serves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from handover.models.json_text import decoded
from handover.models.versions import core_of, same_version
from handover.plan.traffic import Origin
from handover.ports.kube import PodAnswer

USUAL_PATHS = ("/", "/version", "/info", "/api/info", "/actuator/info")
_OF_A_VERSION = re.compile(r"(^|[-_.])version$", re.IGNORECASE)
MAX_DEPTH = 4
_KEY = re.compile(r"[^.\s]+")


def find_origin(answers: Mapping[str, PodAnswer], health_path: str, pod: str, tag: str) -> Origin | None:
    """The first place that can be relied on: a version before a pod's name, a header before a body, what the health
    check is answered before what is asked besides.

    :param answers: what the pod says, by path
    :param tag: of its image; where that is a version, what says another one is not the service's
    """
    paths = sorted(answers, key=lambda path: path != health_path)
    for names_pod in (False, True):
        for path in paths:
            where = None if path == health_path else path
            for header, value in _headers(answers[path]):
                if _is_it(header, value, pod if names_pod else "", tag):
                    return Origin(header=header, path=where, names_pod=names_pod)
        for path in paths:
            where = None if path == health_path else path
            for field, value in _fields(_json(answers[path].body)):
                if _is_it(field, value, pod if names_pod else "", tag):
                    return Origin(field=field, path=where, names_pod=names_pod)
    return None


def _is_it(name: str, value: str, pod: str, tag: str) -> bool:
    """Whether this is the pod's name; or, without one, the version of the image, or what is called a version."""
    if pod:
        return value == pod
    if core_of(tag):
        return same_version(value, tag)
    return bool(_OF_A_VERSION.search(name) and core_of(value))


def _headers(answer: PodAnswer) -> Iterator[tuple[str, str]]:
    """As a person would write them."""
    for name, value in sorted(answer.headers.items()):
        yield "-".join(part.capitalize() for part in name.split("-")), value.strip()


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and path:
        yield ".".join(path), value.strip()
    if isinstance(value, dict) and len(path) < MAX_DEPTH:
        for key, inner in value.items():
            if _KEY.fullmatch(key):
                yield from _fields(inner, (*path, key))


def _json(body: str) -> Any:
    try:
        return decoded(body)
    except ValueError:
        return None
