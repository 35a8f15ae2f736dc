"""Events: what happened to an object, for people. Repetitions are counted, not listed."""

from __future__ import annotations

import hashlib

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import EVENT, Kind
from sandbox.cluster.objects import timestamp
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Object


def record(registry: Registry, kind: Kind, obj: Object, reason: str, message: str, *, warning: bool = False) -> None:
    meta, moment = obj["metadata"], timestamp()
    about = {"kind": kind.name, "apiVersion": kind.api_version}
    about |= {field: meta[field] for field in ("namespace", "name", "uid")}
    digest = hashlib.sha256(f"{meta['uid']} {reason} {message}".encode()).hexdigest()[:16]
    event: Object = {
        "metadata": {"name": f"{meta['name'][:200]}.{digest}"}, "involvedObject": about, "reason": reason,
        "message": message, "type": "Warning" if warning else "Normal", "source": {"component": "sandbox"},
        "firstTimestamp": moment, "lastTimestamp": moment, "count": 1,
    }  # fmt: skip
    try:
        if registry.find(EVENT, meta["namespace"], event["metadata"]["name"]):
            registry.update(EVENT, meta["namespace"], event["metadata"]["name"], _again)
        else:
            registry.create(EVENT, meta["namespace"], event)
    except StatusError:
        return  # the namespace is gone: nobody will miss the event


def _again(event: Object) -> Object:
    return {**event, "count": event["count"] + 1, "lastTimestamp": timestamp()}
