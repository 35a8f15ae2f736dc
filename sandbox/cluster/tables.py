"""Lists as `kubectl get` prints them: the server chooses the columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sandbox.cluster.kinds import DEPLOYMENT, EVENT, JOB, NAMESPACE, NODE, POD, REPLICA_SET, SERVICE, SLICE, Kind
from sandbox.cluster.registry import now
from sandbox.cluster.store import Object

Columns = dict[str, Callable[[Object], Any]]


def age(obj: Object, field: str = "creationTimestamp") -> str:
    seconds = (now() - datetime.fromisoformat(obj["metadata"][field])).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _status(field: str) -> Callable[[Object], Any]:
    return lambda obj: obj.get("status", {}).get(field, 0)


def _pod_ready(pod: Object) -> str:
    statuses = pod["status"].get("containerStatuses") or []
    return f"{sum(status['ready'] for status in statuses)}/{len(pod['spec']['containers'])}"


def _pod_status(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for status in pod["status"].get("containerStatuses") or ():
        state = status["state"].get("waiting") or status["state"].get("terminated") or {}
        if state.get("reason"):
            return str(state["reason"])
    return str(pod["status"].get("reason") or pod["status"]["phase"])


def _restarts(pod: Object) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or ())


def _ports(service: Object) -> str:
    return ",".join(f"{port['port']}/{port['protocol']}" for port in service["spec"].get("ports") or ())


def _job_status(job: Object) -> str:
    conditions = job.get("status", {}).get("conditions") or ()
    return next((item["type"] for item in conditions if item["type"] in ("Complete", "Failed")), "Running")


def _addresses(obj: Object) -> str:
    return ",".join(address for endpoint in obj["endpoints"] or () for address in endpoint["addresses"]) or "<unset>"


COLUMNS: dict[Kind, Columns] = {
    POD: {
        "Ready": _pod_ready,
        "Status": _pod_status,
        "Restarts": _restarts,
        "Age": age,
        "IP": lambda pod: pod["status"].get("podIP", "<none>"),
        "Node": lambda pod: pod["spec"].get("nodeName", "<none>"),
    },
    DEPLOYMENT: {
        "Ready": lambda obj: f"{_status('readyReplicas')(obj)}/{obj['spec']['replicas']}",
        "Up-to-date": _status("updatedReplicas"),
        "Available": _status("availableReplicas"),
    },
    REPLICA_SET: {
        "Desired": lambda obj: obj["spec"]["replicas"],
        "Current": _status("replicas"),
        "Ready": _status("readyReplicas"),
    },
    SERVICE: {
        "Type": lambda obj: obj["spec"]["type"],
        "Cluster-IP": lambda obj: obj["spec"].get("clusterIP", "<none>"),
        "Port(s)": _ports,
        "Selector": lambda obj: ",".join(f"{k}={v}" for k, v in (obj["spec"].get("selector") or {}).items()),
    },
    SLICE: {"Endpoints": _addresses},
    JOB: {
        "Status": _job_status,
        "Completions": lambda obj: f"{_status('succeeded')(obj)}/{obj['spec'].get('completions') or 1}",
    },
    NAMESPACE: {"Status": _status("phase")},
    NODE: {"Status": lambda _: "Ready"},
    EVENT: {
        "Type": lambda obj: obj.get("type", ""),
        "Reason": lambda obj: obj.get("reason", ""),
        "Object": lambda obj: f"{obj['involvedObject'].get('kind', '')}/{obj['involvedObject'].get('name', '')}",
        "Message": lambda obj: obj.get("message", ""),
    },
}


def table(kind: Kind, objects: list[Object], meta: dict[str, Any], include: str = "Metadata") -> dict[str, Any]:
    columns: Columns = {"Name": lambda obj: obj["metadata"]["name"], **COLUMNS.get(kind, {})}
    columns.setdefault("Age", age)
    wide = ("IP", "Node", "Selector")
    definitions = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "",
         "priority": int(name in wide)}
        for name in columns
    ]  # fmt: skip
    rows = [{"cells": [cell(obj) for cell in columns.values()], "object": _included(obj, include)} for obj in objects]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": definitions,
            "rows": rows}  # fmt: skip


def _included(obj: Object, include: str) -> Object | None:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
