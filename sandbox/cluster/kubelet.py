"""The node: gives each pod an address and runs it as a process, with its probe, its restarts and its end."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.cluster.errors import StatusError
from sandbox.cluster.events import record
from sandbox.cluster.image import Catalogue, ConfigError, Image, command, environment
from sandbox.cluster.kinds import POD
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.objects import container_port, is_finished, timestamp, with_condition
from sandbox.cluster.registry import DeleteOptions, Registry
from sandbox.cluster.store import Change, Object
from sandbox.processes import Guardian

log = logging.getLogger(__name__)

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 10.0
FORGIVEN_AFTER = 60.0  # seconds of running after which earlier crashes no longer count
AFTER_PRE_STOP = 2.0  # seconds that are left after a preStop hook, however long it took; as a kubelet does


class Kubelet:
    def __init__(self, registry: Registry, catalogue: Catalogue, logs: PodLogs, homes: Path) -> None:
        self.registry, self.catalogue, self.logs, self.homes = registry, catalogue, logs, homes
        self.guardian = Guardian()
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
            self.logs.forget(uid)
        elif runner is None:
            if self._free and not is_finished(pod):
                self._start(pod)
        elif pod["metadata"].get("deletionTimestamp"):
            runner.terminate(pod["metadata"]["deletionGracePeriodSeconds"])

    def _start(self, pod: Object) -> None:
        uid, runner = pod["metadata"]["uid"], Runner(self, pod, self._free.pop(0))
        self._runners[uid] = runner

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception():
                log.error("pod %s", pod["metadata"]["name"], exc_info=task.exception())
            self._free.append(runner.address)
            shutil.rmtree(runner.home, ignore_errors=True)
            del self._runners[uid]
            if not runner.exists():
                self.logs.forget(uid)

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


class Runner:
    """Runs one pod: a process and the processes it starts."""

    def __init__(self, node: Kubelet, pod: Object, address: str) -> None:
        meta, self._spec = pod["metadata"], pod["spec"]
        self._node, self.address, self._uid = node, address, meta["uid"]
        self._key = (meta["namespace"], meta["name"])
        self._container = self._spec["containers"][0]
        self.home = node.homes / meta["uid"]
        self._latest = pod
        self._image: Image | None = None
        self._state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Object = {}
        self._restarts = 0
        self._ready = self._has_run = self._done = self._stopping = False
        self._grace = float("inf")
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.Task[None] | None = None

    def exists(self) -> bool:
        """Whether the pod is still there, and not another one of its name."""
        found = self._node.registry.find(POD, *self._key)
        if found is None or found["metadata"]["uid"] != self._uid:
            return False
        self._latest = found
        return True

    # --- its life

    async def run(self) -> None:
        """Start it, and start it again as its policy says, until it is over or stopped."""
        self._report()
        policy, backoff = self._spec["restartPolicy"], FIRST_BACKOFF
        while not self._stopping:
            began = time.monotonic()
            if await self._start():
                code = await self._live()
                if self._stopping or policy == "Never" or (policy == "OnFailure" and code == 0):
                    break
                if time.monotonic() - began > FORGIVEN_AFTER:
                    backoff = FIRST_BACKOFF
                await self._back_off(backoff)
            else:
                await self._wait(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
        self._done = True
        if self._ending:
            await asyncio.wait([self._ending])
        self._report()
        if self.exists() and self._latest["metadata"].get("deletionTimestamp"):
            with contextlib.suppress(StatusError):
                self._node.registry.delete(POD, *self._key, DeleteOptions(grace=0, uid=self._uid))

    def terminate(self, grace: float) -> None:
        """preStop, SIGTERM, and SIGKILL once `grace` is over. A second call can only shorten the time it has."""
        if not self._stopping:
            self._stopping = True
            self._record("Killing", f"Stopping container {self._container['name']}")
            self._ending = asyncio.get_running_loop().create_task(self._end(grace))
        elif grace < self._grace:
            asyncio.get_running_loop().call_later(grace, self.kill)
        self._grace = min(grace, self._grace)

    def kill(self) -> None:
        self._stopping = True
        self._signal(signal.SIGKILL)
        if self._ending:
            self._ending.cancel()  # it may be in a hook, which has nothing left to prepare

    # --- starting

    async def _start(self) -> bool:
        """False if it cannot be started; then it waits with a reason."""
        reference = self._container["image"]
        self._image = image = self._node.catalogue.find(reference)
        if image is None:
            if self._state.get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff"):
                self._waiting("ImagePullBackOff", f'Back-off pulling image "{reference}"', event="BackOff")
            else:
                self._waiting("ErrImagePull", f'Failed to pull image "{reference}": not found', event="Failed")
            return False
        try:
            self.exists()  # the newest one: it has the address
            values = environment(self._node.registry, self._latest, image, self.home)
            await self._spawn(command(self._container, image, values), values, image)
        except ConfigError as error:
            self._waiting("CreateContainerConfigError", f"Error: {error}", event="Failed")
            return False
        except (OSError, ValueError) as error:
            self._waiting("RunContainerError", f"Error: {error}", event="Failed")
            return False
        return True

    async def _spawn(self, argv: list[str], values: dict[str, str], image: Image) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._values, self._folder = values, self._container.get("workingDir") or image.workdir or self.home
        log = self._log = self._node.logs.writer(self._uid, self._restarts)
        reading, writing = os.pipe()
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: log, os.fdopen(reading, "rb", 0))
            self._process = await self._open(argv, writing)
        finally:
            os.close(writing)
        self._has_run = True
        self._state = {"running": {"startedAt": timestamp()}}
        self._ready = "readinessProbe" not in self._container
        self._record("Started", f"Started container {self._container['name']}")
        self._report()

    async def _open(self, argv: list[str], output: int) -> asyncio.subprocess.Process:
        """Everything a pod runs has a session of its own, which the guardian ends if we cannot."""
        process = await asyncio.create_subprocess_exec(
            *argv, env=self._values, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        self._node.guardian.watch(process.pid)
        return process

    # --- living

    async def _live(self) -> int:
        """Probe it until its process ends; returns the exit code."""
        process, started = self._process, self._state["running"]["startedAt"]
        assert process
        if self._stopping:  # it was told to stop while it was being started
            self._signal(signal.SIGKILL)
        probing = asyncio.create_task(self._probe())
        code = await process.wait()
        probing.cancel()
        self._signal(signal.SIGKILL)  # what it started ends with it, as in a container
        self._node.guardian.forget(process.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._log.closed.wait()
        code = 128 - code if code < 0 else code
        reason = "Completed" if code == 0 else "Error"
        ended: Object = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": timestamp()}
        self._state = {"terminated": ended}
        self._process, self._ready = None, False
        self._report()
        return code

    async def _probe(self) -> None:
        """Ask its readiness probe for ever; an answer counts once it has come often enough in a row."""
        spec, in_a_row = self._container.get("readinessProbe"), 0
        if spec is None:
            return
        await asyncio.sleep(spec.get("initialDelaySeconds", 0))
        while True:
            wrong = await ask(spec, self._latest, self._execute, spec["timeoutSeconds"])
            if wrong:
                self._record("Unhealthy", f"Readiness probe failed: {wrong}", warning=True)
            in_a_row = in_a_row + 1 if bool(wrong) == self._ready else 0  # answers that speak against what we believe
            if in_a_row >= spec["failureThreshold" if self._ready else "successThreshold"]:
                self._ready, in_a_row = not self._ready, 0
                self._report()
            await asyncio.sleep(spec["periodSeconds"])

    async def _execute(self, argv: list[str]) -> str:
        """Run a command beside the container's process, in its environment; returns what is wrong."""
        process = await self._open(argv, asyncio.subprocess.PIPE)
        try:
            output, errors = await process.communicate()
            said = (output + errors).decode(errors="replace").strip()[-1000:]
            return said or f"exit code {process.returncode}" if process.returncode else ""
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            self._node.guardian.forget(process.pid)

    # --- ending

    async def _end(self, grace: float) -> None:
        process, deadline = self._process, time.monotonic() + grace
        if process is None:
            return
        hook = (self._container.get("lifecycle") or {}).get("preStop")
        least = 0.0
        if hook and grace:
            least = AFTER_PRE_STOP
            if wrong := await ask(hook, self._latest, self._execute, grace):
                self._record("FailedPreStopHook", f"PreStopHook failed: {wrong}", warning=True)
        if self._process is not process:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), least)):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)

    async def _back_off(self, seconds: float) -> None:
        self._last_state, name = self._state, self._container["name"]
        message = f"back-off {seconds:g}s restarting failed container={name} pod={self._key[1]}"
        self._waiting("CrashLoopBackOff", message, event="BackOff")
        await self._wait(seconds)
        self._restarts += 1

    async def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    # --- what is seen of it

    def _record(self, reason: str, message: str, *, warning: bool = False) -> None:
        record(self._node.registry, POD, self._latest, reason, message, warning=warning)

    def _waiting(self, reason: str, message: str, *, event: str) -> None:
        self._record(event, message, warning=True)
        self._state = {"waiting": {"reason": reason, "message": message}}
        self._report()

    def _phase(self) -> str:
        if not self._has_run:
            return "Pending"
        code = self._state.get("terminated", {}).get("exitCode", 1)
        return "Running" if not self._done else "Succeeded" if code == 0 else "Failed"

    def _report(self) -> None:
        if not self.exists():
            return
        status: dict[str, Any] = copy.deepcopy(self._latest["status"])
        status.setdefault("startTime", timestamp())
        host = f"{self._node.registry.subnet}.0.1"
        status.update(phase=self._phase(), hostIP=host, podIP=self.address, podIPs=[{"ip": self.address}])
        status["containerStatuses"] = [
            {
                "name": self._container["name"], "image": self._container["image"],
                "imageID": self._image.id if self._image else "",
                "containerID": f"process://{self._process.pid}" if self._process else "",
                "ready": self._ready, "started": "running" in self._state, "restartCount": self._restarts,
                "state": self._state, "lastState": self._last_state,
            }
        ]  # fmt: skip
        for name, value in (("PodScheduled", True), ("ContainersReady", self._ready), ("Ready", self._ready)):
            with_condition(status, name, value, "" if value else "ContainersNotReady")
        self._node.registry.set_status(POD, self._latest, status)


async def ask(handler: Object, pod: Object, execute: Callable[[list[str]], Awaitable[str]], timeout: float) -> str:
    """Call a probe's or a hook's handler; returns what is wrong, nothing if all is well."""
    try:
        async with asyncio.timeout(timeout):
            if "httpGet" in handler:
                return await _http(handler["httpGet"], pod)
            if "sleep" in handler:
                await asyncio.sleep(handler["sleep"]["seconds"])
                return ""
            return await execute(handler["exec"]["command"])
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    except TimeoutError:
        return f"no answer within {timeout:g} s"


async def _http(handler: Object, pod: Object) -> str:
    port = container_port(pod, handler["port"])
    headers = {"User-Agent": "kube-probe/1.36", "Connection": "close"}
    headers |= {item["name"]: item["value"] for item in handler.get("httpHeaders") or ()}
    url = f"http://{pod['status']['podIP']}:{port}{handler.get('path', '/')}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        await response.read()
        good = 200 <= response.status < 400
        return "" if good else f"HTTP probe failed with statuscode: {response.status}"
