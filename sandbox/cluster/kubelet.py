"""The node: gives each pod an address and a runner, and tells the runner when the pod is to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path

from sandbox.cluster.images import Catalogue
from sandbox.cluster.kinds import POD
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.objects import is_finished
from sandbox.cluster.recorder import Recorder
from sandbox.cluster.registry import Registry
from sandbox.cluster.runner import Node, Runner
from sandbox.cluster.store import Change, Object
from sandbox.processes import Guardian

log = logging.getLogger(__name__)


class Kubelet:
    def __init__(self, registry: Registry, catalogue: Catalogue, logs: PodLogs, homes: Path) -> None:
        self._node = Node(registry, Recorder(registry, "kubelet"), catalogue, logs, Guardian(), homes)
        # The longest unused address comes first, so that a new pod is not taken for the one before it.
        self._free = [f"{registry.subnet}.1.{last}" for last in range(1, 255)]
        self._runners: dict[str, Runner] = {}
        self._closing = False
        registry.store.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        pod = change.new or change.old
        if change.kind is not POD or pod is None or self._closing:
            return
        uid = pod["metadata"]["uid"]
        runner = self._runners.get(uid)
        if change.new is None:
            if runner:
                runner.kill()
            self._node.logs.forget(uid)
        elif runner is None:
            if not is_finished(pod):
                self._start(pod)
        elif pod["metadata"].get("deletionTimestamp"):
            runner.terminate(pod["metadata"]["deletionGracePeriodSeconds"])

    def _start(self, pod: Object) -> None:
        uid, runner = pod["metadata"]["uid"], Runner(self._node, pod, self._free.pop(0))
        self._runners[uid] = runner

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception():
                log.error("pod %s", pod["metadata"]["name"], exc_info=task.exception())
            self._free.append(runner.address)
            shutil.rmtree(runner.home, ignore_errors=True)
            del self._runners[uid]
            if not runner.exists():
                self._node.logs.forget(uid)

        asyncio.get_running_loop().create_task(runner.run()).add_done_callback(ended)

    async def close(self) -> None:
        """Kill every pod and wait until none is left. What would not go, the guardian ends."""
        self._closing = True
        for runner in self._runners.values():
            runner.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self._runners:
                    await asyncio.sleep(0.01)
