"""One namespace of the stand-in cluster, in the words of the tests of its workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STRATEGIC = "application/strategic-merge-patch+json"


class Space:
    """Deploys, runs and looks, in one namespace."""

    def __init__(self, cluster: Any, name: str, eventually: Callable[..., Any]) -> None:
        self.cluster, self.name, self.eventually = cluster, name, eventually
        self.deployments = f"/apis/apps/v1/namespaces/{name}/deployments"
        self.jobs = f"/apis/batch/v1/namespaces/{name}/jobs"
        self.pods_path = f"/api/v1/namespaces/{name}/pods"

    def deploy(self, body: dict[str, Any]) -> None:
        status, answer = self.cluster.call("POST", self.deployments, body)
        assert status == 201, answer

    def patch(self, name: str, **spec: Any) -> None:
        status, answer = self.cluster.call("PATCH", f"{self.deployments}/{name}", {"spec": spec}, STRATEGIC)
        assert status == 200, answer

    def rolled_out(self, name: str = "app") -> Any:
        def complete() -> Any:
            found = self.cluster.get(f"{self.deployments}/{name}")
            status, wanted = found["status"], found["spec"]["replicas"]
            done = status.get("observedGeneration") == found["metadata"]["generation"]
            fields = ("replicas", "updatedReplicas", "availableReplicas")
            return found if done and all(status.get(field, 0) == wanted for field in fields) else None

        return self.eventually(complete)

    def condition(self, name: str, kind: str) -> Any:
        conditions = self.cluster.get(f"{self.deployments}/{name}")["status"].get("conditions") or []
        return next((one for one in conditions if one["type"] == kind), None)

    def pods(self, selector: str = "") -> list[Any]:
        return self.cluster.get(f"{self.pods_path}?labelSelector={selector}")["items"]

    def run_pod(self, name: str, script: str, **spec: Any) -> None:
        container = {"name": "main", "image": "test/tool:v1", "command": ["python", "-c", script]}
        container |= spec.pop("container", {})
        body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container], **spec}}
        status, answer = self.cluster.call("POST", self.pods_path, body)
        assert status == 201, answer

    def pod(self, name: str) -> Any:
        return self.cluster.get(f"{self.pods_path}/{name}")

    def in_phase(self, name: str, phase: str) -> Any:
        return self.eventually(lambda: (found := self.pod(name))["status"]["phase"] == phase and found)

    def log(self, name: str, query: str = "") -> str:
        status, text = self.cluster.call("GET", f"{self.pods_path}/{name}/log?{query}")
        assert status == 200, text
        return str(text)

    def run_job(self, name: str, script: str, **spec: Any) -> None:
        container = {"name": "main", "image": "test/tool:v1", "command": ["python", "-c", script]}
        template = {"spec": {"restartPolicy": spec.pop("restartPolicy", "Never"), "containers": [container]}}
        status, answer = self.cluster.call(
            "POST", self.jobs, {"metadata": {"name": name}, "spec": {"template": template, **spec}}
        )
        assert status == 201, answer

    def job_ends(self, name: str) -> tuple[str, str, Any]:
        def ended() -> Any:
            status = self.cluster.get(f"{self.jobs}/{name}")["status"]
            kinds = {one["type"]: one["reason"] for one in status.get("conditions") or ()}
            return next(((kind, kinds[kind], status) for kind in ("Complete", "Failed") if kind in kinds), None)

        return self.eventually(ended)

    def events(self, name: str) -> dict[str, Any]:
        found = self.cluster.get(f"/api/v1/namespaces/{self.name}/events?fieldSelector=involvedObject.name%3D{name}")[
            "items"
        ]
        return {one["reason"]: one for one in found}
