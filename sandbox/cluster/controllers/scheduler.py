"""The scheduler: there is one node, so it only decides whether a pod may run on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.kinds import NODE, POD
from sandbox.cluster.kubelet import NODE_NAME
from sandbox.cluster.pods import is_finished, with_condition
from sandbox.cluster.store import Change, Key, Object


class Scheduler(Controller):
    name = "default-scheduler"

    def affected(self, change: Change) -> Iterable[Key]:
        if change.kind is POD and change.new is not None and not change.new["spec"].get("nodeName"):
            yield change.key
        elif change.kind is NODE:
            yield from ((pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in self.store.objects(POD))

    def reconcile(self, key: Key) -> None:
        pod = self.store.get(POD, key)
        if pod is None or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
            return
        problem = self._problem(pod)
        status: dict[str, Any] = dict(pod["status"])
        status["conditions"] = list(status.get("conditions") or ())
        if problem:
            message = f"0/1 nodes are available: {problem}."
            with_condition(status, "PodScheduled", False, "Unschedulable", message, probe=True)
            self.registry.set_status(POD, pod, status)
            self.recorder.event(POD, pod, "FailedScheduling", message, warning=True)
            return

        def bind(current: Object) -> Object:
            current["spec"]["nodeName"] = NODE_NAME
            with_condition(status, "PodScheduled", True, probe=True)
            current["status"] = status
            return current

        self.registry.update(POD, *key, bind, subresource="binding")
        self.recorder.event(POD, pod, "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {NODE_NAME}")

    def _problem(self, pod: Object) -> str:
        node = self.store.get(NODE, ("", NODE_NAME))
        if node is None or node.get("spec", {}).get("unschedulable"):
            return "1 node(s) were unschedulable"
        labels = node["metadata"].get("labels") or {}
        if any(labels.get(name) != value for name, value in (pod["spec"].get("nodeSelector") or {}).items()):
            return "1 node(s) didn't match Pod's node affinity/selector"
        running = [
            other for other in self.store.objects(POD) if other["spec"].get("nodeName") and not is_finished(other)
        ]
        if len(running) >= int(node["status"]["allocatable"]["pods"]):
            return "Too many pods"
        return ""
