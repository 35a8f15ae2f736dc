"""The node: gives pods an address, runs their containers as processes, and reports how they are."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import shutil
from pathlib import Path

from sandbox.cluster.container import Container
from sandbox.cluster.environment import Environments
from sandbox.cluster.errors import StatusError
from sandbox.cluster.guardian import Guardian
from sandbox.cluster.images import Catalogue
from sandbox.cluster.kinds import POD
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.pods import is_finished, with_condition
from sandbox.cluster.recorder import Recorder
from sandbox.cluster.registry import DeleteOptions, Registry, timestamp
from sandbox.cluster.store import Change, Object

log = logging.getLogger(__name__)

NODE_NAME = "sandbox"


class Kubelet:
    def __init__(self, registry: Registry, catalogue: Catalogue, environments: Environments, logs: PodLogs,
                 guardian: Guardian, data_dir: Path) -> None:  # fmt: skip
        self.registry, self.catalogue, self.environments = registry, catalogue, environments
        self.logs, self.guardian = logs, guardian
        self.recorder = Recorder(registry, "kubelet")
        self.homes = data_dir / "pods"
        self._addresses = _Addresses(registry.subnet)
        self._workers: dict[str, PodWorker] = {}
        self._closing = False
        registry.store.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        if change.kind is not POD or self._closing:
            return
        pod = change.new or change.old
        assert pod
        worker = self._workers.get(pod["metadata"]["uid"])
        if change.new is None:
            if worker:
                worker.kill()
            self.logs.forget(pod["metadata"]["uid"])
        elif worker is None:
            if pod["spec"].get("nodeName") == NODE_NAME and not is_finished(pod):
                self._start(pod)
        elif pod["metadata"].get("deletionTimestamp"):
            worker.terminate(float(pod["metadata"]["deletionGracePeriodSeconds"]))

    def _start(self, pod: Object) -> None:
        worker = PodWorker(self, pod, self._addresses.take())
        uid = pod["metadata"]["uid"]
        self._workers[uid] = worker

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception():
                log.error("pod %s", pod["metadata"]["name"], exc_info=task.exception())
            self._addresses.give_back(worker.address)
            shutil.rmtree(worker.home, ignore_errors=True)
            self._workers.pop(uid, None)
            if self.registry.find(POD, *worker.key) is None:
                self.logs.forget(uid)

        asyncio.get_running_loop().create_task(worker.run()).add_done_callback(ended)

    async def close(self) -> None:
        """Kill every pod and wait until none is left. What would not go, the guardian ends."""
        self._closing = True
        for worker in list(self._workers.values()):
            worker.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self._workers:
                    await asyncio.sleep(0.01)


class _Addresses:
    """Pod addresses, the longest unused first, so that a new pod is not taken for the one before it."""

    def __init__(self, subnet: str) -> None:
        self._free = [f"{subnet}.1.{last}" for last in range(1, 255)]

    def take(self) -> str:
        return self._free.pop(0)

    def give_back(self, address: str) -> None:
        self._free.append(address)


class PodWorker:
    """Runs one pod from its start to its end."""

    def __init__(self, kubelet: Kubelet, pod: Object, address: str) -> None:
        meta = pod["metadata"]
        self._kubelet, self.address, self._uid = kubelet, address, meta["uid"]
        self.key = (meta["namespace"], meta["name"])
        self.home = kubelet.homes / meta["uid"]
        self._latest = pod
        self._initial = [self._container(spec) for spec in pod["spec"].get("initContainers") or ()]
        self._main = [self._container(spec) for spec in pod["spec"]["containers"]]
        self._initialised = not self._initial
        self._failed = ""  # why the pod as a whole is over, if it is
        self._stopping: asyncio.Future[list[None]] | None = None
        self._killed = False

    def _container(self, spec: Object) -> Container:
        return Container(self._kubelet, self._pod, spec, self.home, self._report, self._record)

    def _pod(self) -> Object:
        found = self._kubelet.registry.find(POD, *self.key)
        if found is not None and found["metadata"]["uid"] == self._uid:
            self._latest = found
        return self._latest

    def _record(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._kubelet.recorder.event(POD, self._latest, reason, message, warning=warning)

    # --- its life

    async def run(self) -> None:
        self._report()
        limit = self._latest["spec"].get("activeDeadlineSeconds")
        timer = asyncio.get_running_loop().call_later(limit, self._too_long) if limit else None
        policy = self._latest["spec"]["restartPolicy"]
        for container in self._initial:
            await container.run("OnFailure" if policy == "Always" else policy)
            if container.exit_code != 0:
                break
        else:
            self._initialised = True
            await asyncio.gather(*(container.run(policy) for container in self._main))
        if timer:
            timer.cancel()
        if self._stopping:
            with contextlib.suppress(asyncio.CancelledError):
                await self._stopping
        self._report()
        if self._pod()["metadata"].get("deletionTimestamp"):
            with contextlib.suppress(StatusError):
                self._kubelet.registry.delete(POD, *self.key, DeleteOptions(grace=0, uid=self._uid))

    def terminate(self, grace: float) -> None:
        """Stop all containers at the same time; a second call can only shorten the time they have."""
        containers = [*self._initial, *self._main]
        if self._stopping is None:
            for container in containers:
                if "running" in container.state:
                    self._record("Killing", f"Stopping container {container.name}")
            self._stopping = asyncio.ensure_future(asyncio.gather(*(container.stop(grace) for container in containers)))
        else:
            asyncio.get_running_loop().call_later(grace, self.kill)

    def kill(self) -> None:
        for container in (*self._initial, *self._main):
            container.kill()

    def _too_long(self) -> None:
        self._failed = "DeadlineExceeded"
        self.terminate(float(self._latest["spec"].get("terminationGracePeriodSeconds", 30)))

    # --- its status

    def _report(self) -> None:
        pod = self._pod()
        if self._kubelet.registry.find(POD, *self.key) is not pod:
            return  # already deleted, or replaced by another pod of the same name
        status = copy.deepcopy(pod["status"])
        status.setdefault("startTime", timestamp())
        status.update(hostIP=f"{self._kubelet.registry.subnet}.0.1", podIP=self.address, podIPs=[{"ip": self.address}])
        status["phase"] = self._phase()
        status["observedGeneration"] = pod["metadata"].get("generation", 1)
        status["containerStatuses"] = [container.status() for container in self._main]
        if self._initial:
            status["initContainerStatuses"] = [container.status() for container in self._initial]
        if self._failed:
            status["reason"] = self._failed
        unready = [container.name for container in self._main if not container.ready]
        done = status["phase"] == "Succeeded"
        reason = "PodCompleted" if done else "ContainersNotReady" if unready else ""
        message = f"containers with unready status: {unready}" if unready and not done else ""
        with_condition(status, "Initialized", self._initialised, probe=True)
        with_condition(status, "ContainersReady", not unready, reason, message, probe=True)
        with_condition(status, "Ready", not unready, reason, message, probe=True)
        self._kubelet.registry.set_status(POD, pod, status)

    def _phase(self) -> str:
        policy = self._latest["spec"]["restartPolicy"]
        if self._failed and all(container.done for container in self._main if container.has_run):
            return "Failed"
        if not self._initialised:
            stuck = any(container.done and container.exit_code != 0 for container in self._initial)
            return "Failed" if stuck else "Pending"
        if all(container.done and container.has_run for container in self._main) and (
            policy != "Always" or self._stopping
        ):
            return "Succeeded" if all(container.exit_code == 0 for container in self._main) else "Failed"
        return "Running" if all(container.has_run for container in self._main) else "Pending"
