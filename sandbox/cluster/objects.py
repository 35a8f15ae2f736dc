"""What is read off objects, or written on them, in more than one place."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from sandbox.cluster.kinds import Kind
from sandbox.cluster.store import Object

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes: no vowels, so no words


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime | None = None) -> str:
    return (moment or now()).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(moment: str) -> float:
    return (now() - datetime.fromisoformat(moment)).total_seconds()


def suffix(length: int = 5) -> str:
    return "".join(random.choices(_ALPHABET, k=length))


def owner_reference(kind: Kind, owner: Object) -> dict[str, Any]:
    meta = owner["metadata"]
    return {
        "apiVersion": kind.api_version, "kind": kind.name, "name": meta["name"], "uid": meta["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def controller(obj: Object) -> dict[str, Any]:
    """The reference to the one owner that manages this object; empty if there is none."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def condition(obj: Object, kind: str) -> dict[str, Any] | None:
    conditions = obj.get("status", {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind), None)


def with_condition(status: Object, kind: str, value: bool, reason: str = "", message: str = "") -> None:
    """Set a condition of `status`. Its transition time moves with its value, its update time with anything else."""
    moment = timestamp()
    new = {
        "type": kind, "status": str(value), "reason": reason, "message": message,
        "lastTransitionTime": moment, "lastUpdateTime": moment,
    }  # fmt: skip
    old = condition({"status": status}, kind)
    if old and old["status"] == new["status"]:
        new["lastTransitionTime"] = old["lastTransitionTime"]
        if (old["reason"], old["message"]) == (reason, message):
            new["lastUpdateTime"] = old["lastUpdateTime"]
    status["conditions"] = [*(item for item in status.get("conditions") or () if item["type"] != kind), new]


def is_ready(pod: Object) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def ready_for(pod: Object) -> float:
    """For how long the pod has been ready; negative if it is not."""
    found = condition(pod, "Ready")
    return seconds_since(found["lastTransitionTime"]) if found and is_ready(pod) else -1.0


def is_finished(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_finished(pod) and not pod["metadata"].get("deletionTimestamp")


def container_port(pod: Object, target: Any) -> int | None:
    """A port number, or the number behind a port's name; None if the container has no such name."""
    if str(target).isdigit():
        return int(target)
    ports = pod["spec"]["containers"][0].get("ports") or ()
    return next((port["containerPort"] for port in ports if port.get("name") == target), None)
