"""ReplicaSet: so many pods of one template."""

from __future__ import annotations

from sandbox.cluster.controller import Controller
from sandbox.cluster.kinds import POD, REPLICA_SET
from sandbox.cluster.objects import is_active, is_ready, ready_for
from sandbox.cluster.store import Object


class ReplicaSets(Controller):
    kind, owns = REPLICA_SET, POD

    def reconcile(self, found: Object) -> None:
        pods = [pod for pod in self.owned(found) if is_active(pod)]
        missing = found["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            pods.append(self.create_pod(found))
        if missing < 0:
            pods.sort(key=lambda pod: (is_ready(pod), ready_for(pod)))  # the unready go first, then the youngest
            for pod in pods[:-missing]:
                self.registry.delete(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
                message = f"Deleted pod: {pod['metadata']['name']}"
                self.recorder.event(REPLICA_SET, found, "SuccessfulDelete", message)
            pods = pods[-missing:]
        self._report(found, pods)

    def _report(self, found: Object, pods: list[Object]) -> None:
        ready = [pod for pod in pods if is_ready(pod)]
        missing = [found["spec"].get("minReadySeconds", 0) - ready_for(pod) for pod in ready]
        soon = [seconds for seconds in missing if seconds > 0]
        if soon:
            self.again(found, min(soon))
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready) - len(soon),
            "observedGeneration": found["metadata"]["generation"],
        }
        self.registry.set_status(REPLICA_SET, found, status)
