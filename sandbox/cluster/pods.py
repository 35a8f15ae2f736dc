"""What controllers, kubelet and proxy read off a pod, and conditions of any object."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sandbox.cluster.registry import now, timestamp
from sandbox.cluster.store import Object


def condition(obj: Object, kind: str) -> dict[str, Any] | None:
    conditions = obj.get("status", {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind), None)


def with_condition(status: Object, kind: str, value: bool, reason: str = "", message: str = "", *, probe: bool = False
                   ) -> None:  # fmt: skip
    """Set a condition of `status`; its transition time moves only when its value changes."""
    conditions = status.setdefault("conditions", [])
    old = next((item for item in conditions if item["type"] == kind), None)
    text = "True" if value else "False"
    moment = timestamp()
    new: dict[str, Any] = {"type": kind, "status": text, "lastTransitionTime": moment}
    if old and old["status"] == text:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    if probe:
        new["lastProbeTime"] = None
    else:
        same = old and (old["status"], old.get("reason"), old.get("message")) == (text, reason, message)
        new["lastUpdateTime"] = old.get("lastUpdateTime", moment) if old and same else moment
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    status["conditions"] = [*(item for item in conditions if item["type"] != kind), new]


def is_ready(pod: Object) -> bool:
    found = condition(pod, "Ready")
    return bool(found and found["status"] == "True")


def is_finished(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_finished(pod) and not pod["metadata"].get("deletionTimestamp")


def seconds_since(moment: str) -> float:
    return (now() - datetime.fromisoformat(moment)).total_seconds()


def ready_for(pod: Object) -> float:
    """For how long the pod has been ready; negative if it is not."""
    found = condition(pod, "Ready")
    return seconds_since(found["lastTransitionTime"]) if found and found["status"] == "True" else -1.0


def container_port(pod: Object, target: Any) -> int | None:
    """A port number, or the number behind a port's name; None if no container has that name."""
    if isinstance(target, int):
        return target
    if str(target).isdigit():
        return int(target)
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    return next((port["containerPort"] for port in ports if port.get("name") == target), None)
