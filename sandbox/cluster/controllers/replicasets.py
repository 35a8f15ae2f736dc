"""ReplicaSet: so many pods of one template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import POD, REPLICA_SET
from sandbox.cluster.pods import is_active, is_ready, ready_for
from sandbox.cluster.registry import controller_uid, owner_reference
from sandbox.cluster.selectors import workload_selects
from sandbox.cluster.store import Change, Key, Object


class ReplicaSets(Controller):
    name = "replicaset-controller"

    def affected(self, change: Change) -> Iterable[Key]:
        return self.own_and_owner(change, POD, REPLICA_SET)

    def reconcile(self, key: Key) -> None:
        found = self.store.get(REPLICA_SET, key)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        self._adopt(found)
        pods = [pod for pod in self.owned(POD, found) if is_active(pod)]
        missing = found["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            self._create_pod(found)
        if missing < 0:
            for pod in sorted(pods, key=_expendable)[:-missing]:
                self.registry.delete(POD, key[0], pod["metadata"]["name"])
                message = f"Deleted pod: {pod['metadata']['name']}"
                self.recorder.event(REPLICA_SET, found, "SuccessfulDelete", message)
        self._report(found)

    def _adopt(self, found: Object) -> None:
        """Take in pods without a controller that the selector takes, as after a deletion that orphaned them."""
        for pod in self.store.objects(POD, found["metadata"]["namespace"]):
            labels = pod["metadata"].get("labels") or {}
            if controller_uid(pod) or not is_active(pod) or not workload_selects(found["spec"]["selector"], labels):
                continue

            def adopt(current: Object) -> Object:
                owners = current["metadata"].setdefault("ownerReferences", [])
                owners.append(owner_reference(REPLICA_SET, found))
                return current

            self.registry.update(POD, pod["metadata"]["namespace"], pod["metadata"]["name"], adopt)

    def _create_pod(self, found: Object) -> None:
        meta, template = found["metadata"], found["spec"]["template"]
        about: dict[str, Any] = {
            **(template.get("metadata") or {}),
            "generateName": f"{meta['name']}-",
            "ownerReferences": [owner_reference(REPLICA_SET, found)],
        }
        about.pop("name", None)
        about.pop("creationTimestamp", None)
        try:
            pod = self.registry.create(POD, meta["namespace"], {"metadata": about, "spec": template["spec"]})
        except StatusError as error:
            self.recorder.event(REPLICA_SET, found, "FailedCreate", f"Error creating: {error}", warning=True)
            raise
        message = f"Created pod: {pod['metadata']['name']}"
        self.recorder.event(REPLICA_SET, found, "SuccessfulCreate", message)

    def _report(self, found: Object) -> None:
        meta, spec = found["metadata"], found["spec"]
        pods = [pod for pod in self.owned(POD, found) if is_active(pod)]
        ready = [pod for pod in pods if is_ready(pod)]
        wait = spec.get("minReadySeconds", 0)
        available = [pod for pod in ready if ready_for(pod) >= wait]
        if len(available) < len(ready):
            soonest = min(wait - ready_for(pod) for pod in ready if pod not in available)
            self.enqueue_after((meta["namespace"], meta["name"]), max(soonest, 0.05))
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(available),
            "observedGeneration": meta["generation"],
        }
        self.registry.set_status(REPLICA_SET, found, status)


def _expendable(pod: Object) -> tuple[bool, float]:
    """Which pods go first: those that are not ready, then the youngest."""
    return is_ready(pod), ready_for(pod)
