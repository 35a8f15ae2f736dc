"""Reads the protobuf that newer kubectl sends for `kubectl create`; everything else talks JSON.

Only what those commands build is known. Anything more is refused rather than dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from sandbox.cluster.errors import StatusError

# Messages by their fields: number, name, and after it what it is: nothing for text, # a number, ? a flag,
# <> a map of text, <b> a map of bytes, - ignored, or a message; [] if it repeats.
_MESSAGES = {
    "ObjectMeta": "1 name 2 generateName 3 namespace 8 creationTimestamp - 11 labels <> 12 annotations <>",
    "Namespace": "1 metadata ObjectMeta 2 spec - 3 status -",
    "ServiceAccount": "1 metadata ObjectMeta",
    "ConfigMap": "1 metadata ObjectMeta 2 data <> 3 binaryData <b> 4 immutable ?",
    "Secret": "1 metadata ObjectMeta 2 data <b> 3 type 4 stringData <> 5 immutable ?",
    "Job": "1 metadata ObjectMeta 2 spec JobSpec 3 status -",
    "JobSpec": "1 parallelism # 2 completions # 3 activeDeadlineSeconds # 6 template Template 7 backoffLimit #"
    " 8 ttlSecondsAfterFinished #",
    "Deployment": "1 metadata ObjectMeta 2 spec DeploymentSpec 3 status -",
    "DeploymentSpec": "1 replicas # 2 selector Selector 3 template Template 4 strategy Strategy",
    "Strategy": "1 type",
    "Selector": "1 matchLabels <>",
    "Template": "1 metadata ObjectMeta 2 spec PodSpec",
    "PodSpec": "2 containers [] Container 3 restartPolicy 4 terminationGracePeriodSeconds # 6 dnsPolicy"
    " 8 serviceAccountName 14 securityContext - 19 schedulerName",
    "Container": "1 name 2 image 3 command [] 4 args [] 5 workingDir 6 ports [] Port 7 env [] Variable 8 resources -"
    " 14 imagePullPolicy",
    "Port": "1 name 3 containerPort # 4 protocol",
    "Variable": "1 name 2 value",
    "Service": "1 metadata ObjectMeta 2 spec ServiceSpec 3 status -",
    "ServiceSpec": "1 ports [] ServicePort 2 selector <> 3 clusterIP 4 type 7 sessionAffinity 10 externalName",
    "ServicePort": "1 name 2 protocol 3 port # 4 targetPort IntOrString",
}  # fmt: skip


def decode(raw: bytes) -> dict[str, Any]:
    try:
        if raw[:4] != b"k8s\x00":
            raise ValueError("no Kubernetes protobuf")
        envelope = dict(_fields(raw[4:]))
        about = {number: bytes(value).decode() for number, value in _fields(envelope[1])}
        return {"apiVersion": about[1], "kind": about[2], **_message(about[2], envelope[2])}
    except (KeyError, ValueError, IndexError, TypeError) as error:
        message = f"this server takes JSON and YAML, and of protobuf what kubectl create sends: {error}"
        raise StatusError(415, "UnsupportedMediaType", message) from error


def _number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(raw):
        tag, at = _number(raw, at)
        value, at = _number(raw, at)
        if tag & 7 == 2:
            yield tag >> 3, raw[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def _schema(name: str) -> dict[int, tuple[str, bool, str]]:
    """The fields of a message by number: name, whether it repeats, what it is."""
    words, found = _MESSAGES[name].split(), {}
    starts = [index for index, word in enumerate(words) if word.isdigit()]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        kinds = [word for word in words[start + 2 : end] if word != "[]"]
        found[int(words[start])] = words[start + 1], "[]" in words[start:end], kinds[0] if kinds else ""
    return found


def _message(name: str, raw: bytes) -> dict[str, Any]:
    if name == "IntOrString":
        parts = dict(_fields(raw))
        return parts[3].decode() if parts.get(1) else parts.get(2, 0)
    schema, found = _schema(name), dict[str, Any]()
    for number, value in _fields(raw):
        if number not in schema:
            if value:
                raise ValueError(f"{name} has a field {number}")
            continue
        field, repeats, kind = schema[number]
        if kind in ("<>", "<b>"):
            key, text = (dict(_fields(value)).get(part, b"") for part in (1, 2))
            found.setdefault(field, {})[key.decode()] = (base64.b64encode(text) if kind == "<b>" else text).decode()
        elif kind != "-":
            plain = bool(value) if kind == "?" else value if kind == "#" else value.decode() if not kind else None
            decoded = _message(kind, value) if plain is None else plain
            if repeats:
                found.setdefault(field, []).append(decoded)
            elif decoded not in ("", False):
                found[field] = decoded
    return found
