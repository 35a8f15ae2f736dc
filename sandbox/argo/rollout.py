"""One blue/green rollout by Argo, from the first version to the watch after the switch, and what is done to it then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sandbox.argo import manifests
from sandbox.argo.controller import Argo
from sandbox.argo.objects import Object, collection, path_of
from sandbox.processes import POLL_SECONDS
from sandbox.settings import SERVICE_PORT, SandboxError

READY_SECONDS = 120
ABORT: Object = {"status": {"abort": True}}
"""What ``kubectl argo rollouts abort`` sends."""
ENDED = ("Failed", "Error", "Inconclusive")


class Rollout:
    """``with Rollout(argo, old_image, new_image, url) as rollout``: the new version serves and is analysed.

    :param url: of the active Service, as the controller and the guests reach it
    :param interval: at which answers are sampled
    """

    def __init__(self, argo: Argo, old: str, new: str, url: str, interval: str = manifests.EVERY_SECOND) -> None:
        self._argo, self._objects, self._new = argo, argo.objects, new
        template = self._objects.get("/apis/apps/v1/namespaces/production/deployments/pms-blue")["spec"]["template"]
        self._manifest = manifests.rollout(template, old)
        analysis = manifests.analysis(url, argo.endpoints["recorder"], interval)
        self._made = [*manifests.services(SERVICE_PORT), analysis, self._manifest]

    def __enter__(self) -> Self:
        try:
            for manifest in self._made:
                self._objects.create(manifest)
            self._until("Healthy", lambda rollout: self._phase(rollout) == "Healthy")
            self._objects.patch(path_of(self._manifest), self._image(self._new))
            self._until("analysed", _analysed)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Its pods are gone too when this returns: nothing of one round is there in the next."""
        for manifest in reversed(self._made):
            self._objects.remove(manifest)
        deadline = time.monotonic() + READY_SECONDS
        while self._pods():
            if time.monotonic() > deadline:
                raise SandboxError(f"pods of Argo's rollout are not gone after {READY_SECONDS} s: {self._pods()}")
            time.sleep(POLL_SECONDS)

    @property
    def path(self) -> str:
        return path_of(self._manifest)

    def new_pods(self) -> list[str]:
        """Names of the pods of the new version."""
        return self._pods(self._objects.get(self.path)["status"]["currentPodHash"])

    def abort(self) -> None:
        """By the API, as Argo's own command line does."""
        self._objects.patch(f"{self.path}/status", ABORT)

    def has_a_verdict(self) -> bool:
        """Whether the analysis has ended badly."""
        return any(run["status"].get("phase") in ENDED for run in self._runs())

    def verdict(self) -> str:
        """What the analysis ended with, and why."""
        return "; ".join(f"{run['status'].get('phase')}: {run['status'].get('message', '')}" for run in self._runs())

    def _runs(self) -> list[Object]:
        """Of this rollout alone: those of an earlier one go with it."""
        found = self._objects.get(collection(manifests.GROUP, "AnalysisRun", manifests.NAMESPACE))["items"]
        owner = self._objects.get(self.path)["metadata"]["uid"]
        return [run for run in found if run["metadata"]["ownerReferences"][0]["uid"] == owner and "status" in run]

    def _image(self, image: str) -> Object:
        pods: Object = self._manifest["spec"]["template"]["spec"]
        containers = [{**pods["containers"][0], "image": image}]
        return {"spec": {"template": {"spec": {"containers": containers}}}}

    def _pods(self, pod_hash: str = "") -> list[str]:
        labels = manifests.LABELS | ({manifests.HASH: pod_hash} if pod_hash else {})
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path = collection("v1", "Pod", manifests.NAMESPACE)
        answer = self._objects.client.get(path, params={"labelSelector": selector}).raise_for_status()
        return [pod["metadata"]["name"] for pod in answer.json()["items"]]

    def _phase(self, rollout: dict[str, Any]) -> str:
        status = rollout.get("status") or {}
        seen = str(status.get("observedGeneration", "")) == str(rollout["metadata"]["generation"])
        return str(status.get("phase", "")) if seen else ""

    def _until(self, what: str, reached: Callable[[Object], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not reached(rollout := self._objects.get(self.path)):
            self._argo.check()
            if time.monotonic() > deadline:
                status = rollout.get("status")
                raise SandboxError(f"Argo's rollout is not {what} after {READY_SECONDS} s: {status}; {self._argo.log}")
            time.sleep(POLL_SECONDS)


def _analysed(rollout: Object) -> bool:
    """The new version serves, and the analysis after the switch is under way."""
    status = rollout.get("status") or {}
    blue_green = status.get("blueGreen") or {}
    running = (blue_green.get("postPromotionAnalysisRunStatus") or {}).get("status") == "Running"
    return running and blue_green.get("activeSelector") == status.get("currentPodHash")
