"""One container: a process and the processes it starts, its probes, its restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sandbox.cluster.environment import ConfigError, Environments, command
from sandbox.cluster.guardian import Guardian
from sandbox.cluster.images import Catalogue, Image
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.probes import Prober, probe
from sandbox.cluster.registry import suffix, timestamp
from sandbox.cluster.store import Object

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 10.0
FORGIVEN_AFTER = 60.0  # seconds of running after which earlier crashes no longer count


class Host(Protocol):
    """What a container needs of its node."""

    catalogue: Catalogue
    environments: Environments
    logs: PodLogs
    guardian: Guardian


class Container:
    """`changed` is called whenever the pod's status may have to be written."""

    def __init__(
        self,
        host: Host,
        pod: Callable[[], Object],
        spec: Object,
        home: Path,
        changed: Callable[[], None],
        record: Callable[..., None],
    ) -> None:
        self._host, self._pod, self._home, self._changed, self._record = host, pod, home, changed, record
        self.name, self.spec = spec["name"], spec
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.ready = self.started = False
        self.has_run = False
        self.done = False  # ended, and will not be started again
        self._image: Image | None = None
        self._id = ""
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._restarting = False

    # --- what is seen from outside

    @property
    def exit_code(self) -> int | None:
        code = self.state.get("terminated", {}).get("exitCode")
        return None if code is None else int(code)

    def status(self) -> Object:
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self._image.id if self._image else "",
            "containerID": self._id,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    # --- its life

    async def run(self, policy: str) -> None:
        """Start it, and start it again as `policy` says, until it is over or stopped."""
        backoff = FIRST_BACKOFF
        while not self._stopping:
            began = time.monotonic()
            if not await self._start():
                await self._wait(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)
                continue
            code = await self._live()
            again = policy == "Always" or (policy == "OnFailure" and code != 0)
            if self._stopping or not again:
                break
            if time.monotonic() - began > FORGIVEN_AFTER:
                backoff = FIRST_BACKOFF
            await self._back_off(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
        self.done = True
        self._changed()

    async def stop(self, grace: float) -> None:
        """preStop, SIGTERM, and SIGKILL once `grace` is over. Like a kubelet it leaves two seconds after preStop."""
        self._stopping = True
        await self._end(grace)

    def kill(self) -> None:
        self._stopping = True
        self._signal(signal.SIGKILL)

    # --- starting

    async def _start(self) -> bool:
        """False if it cannot be started; then it waits with a reason."""
        reference = self.spec["image"]
        self._image = image = self._host.catalogue.find(reference)
        if image is None:
            repeated = self.state.get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff")
            if repeated:
                self._record("BackOff", f'Back-off pulling image "{reference}"')
                self._waiting("ImagePullBackOff", f'Back-off pulling image "{reference}"')
            else:
                self._record("Failed", f'Failed to pull image "{reference}": not found', warning=True)
                self._waiting("ErrImagePull", f'image "{reference}" is not in the catalogue')
            return False
        try:
            values = self._host.environments.build(self._pod(), self.spec, image, self._home)
            argv = command(self.spec, image, values)
            await self._spawn(argv, values, image)
        except ConfigError as error:
            self._record("Failed", f"Error: {error}", warning=True)
            self._waiting("CreateContainerConfigError", str(error))
            return False
        except (OSError, ValueError) as error:
            self._record("Failed", f"Error: {error}", warning=True)
            self._waiting("RunContainerError", str(error))
            return False
        return True

    async def _spawn(self, argv: list[str], values: dict[str, str], image: Image) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        log = self._host.logs.writer(self._pod()["metadata"]["uid"], self.name, self.restarts)
        reading, writing = os.pipe()
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: log, os.fdopen(reading, "rb", 0))
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                env=values,
                cwd=self.spec.get("workingDir") or image.workdir or self._home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        self._log = log
        self._values = values
        self._host.guardian.watch(self._process.pid)
        self._id = f"process://{self._process.pid}-{suffix(8)}"
        self.has_run = True
        self.state = {"running": {"startedAt": timestamp()}}
        self.started = "startupProbe" not in self.spec
        self.ready = self.started and "readinessProbe" not in self.spec
        self._record("Started", f"Started container {self.name}")
        self._changed()

    # --- living

    async def _live(self) -> int:
        """Probe it until its process ends; returns the exit code."""
        assert self._process
        if self._stopping:  # it was told to stop while it was being started
            self._signal(signal.SIGKILL)
        probing = asyncio.create_task(self._probe())
        code = await self._process.wait()
        probing.cancel()
        self._signal(signal.SIGKILL)  # what it started ends with it, as in a container
        self._host.guardian.forget(self._process.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._log.closed.wait()
        code = 128 - code if code < 0 else code
        self.ready = self.started = False
        started = self.state.get("running", {}).get("startedAt")
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                "startedAt": started,
                "finishedAt": timestamp(),
                "containerID": self._id,
            }
        }
        self._process = None
        self._restarting = False
        self._changed()
        return code

    async def _probe(self) -> None:
        prober = Prober(self._pod(), self._execute)
        if "startupProbe" in self.spec:
            started = asyncio.Event()

            def startup_turned(ok: bool) -> None:
                if ok:
                    started.set()
                else:
                    self._restart("startup")

            asking = asyncio.create_task(
                probe(prober, self.spec["startupProbe"], startup_turned, self._unhealthy("Startup"))
            )
            try:
                await started.wait()
            finally:
                asking.cancel()
            self.started, self.ready = True, "readinessProbe" not in self.spec
            self._changed()
        async with asyncio.TaskGroup() as group:
            if "readinessProbe" in self.spec:
                group.create_task(
                    probe(prober, self.spec["readinessProbe"], self._readiness, self._unhealthy("Readiness"))
                )
            if "livenessProbe" in self.spec:
                group.create_task(
                    probe(prober, self.spec["livenessProbe"], self._liveness, self._unhealthy("Liveness"))
                )

    def _readiness(self, ok: bool) -> None:
        if self.ready != ok:
            self.ready = ok
            self._changed()

    def _liveness(self, ok: bool) -> None:
        if not ok:
            self._restart("liveness")

    def _unhealthy(self, kind: str) -> Callable[[str], None]:
        return lambda message: self._record("Unhealthy", f"{kind} probe failed: {message}", warning=True)

    def _restart(self, why: str) -> None:
        """A probe gave up on it: end it, and let the restart policy decide what follows."""
        if self._restarting or self._stopping:
            return
        self._restarting = True
        self._record("Killing", f"Container {self.name} failed {why} probe, will be restarted")
        grace = float(self._pod()["spec"].get("terminationGracePeriodSeconds", 30))
        self._ending = asyncio.create_task(self._end(grace))

    # --- ending

    async def _end(self, grace: float) -> None:
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + grace
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._pre_stop(hook)
        if self._process is process:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 2.0 if hook and grace else 0.0)):
                    await process.wait()
            except TimeoutError:
                if self._process is process:
                    self._signal(signal.SIGKILL)
                await process.wait()

    async def _pre_stop(self, hook: Object) -> None:
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
            return
        answer = await Prober(self._pod(), self._execute).ask({**hook, "timeoutSeconds": 3600})
        if not answer.ok:
            self._record("FailedPreStopHook", f"PreStopHook failed: {answer.message}", warning=True)

    async def _back_off(self, seconds: float) -> None:
        name = self._pod()["metadata"]["name"]
        message = f"back-off {seconds:g}s restarting failed container={self.name} pod={name}"
        self.last_state = self.state
        self._record("BackOff", f"Back-off restarting failed container {self.name}", warning=True)
        self._waiting("CrashLoopBackOff", message)
        await self._wait(seconds)
        self.restarts += 1

    async def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    def _waiting(self, reason: str, message: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._changed()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _execute(self, argv: list[str], timeout: float) -> tuple[int, str]:
        """Run a command beside the container's process, in its environment and its process group's care."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=self._values,
            cwd=self.spec.get("workingDir") or (self._image.workdir if self._image else "") or self._home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._host.guardian.watch(process.pid)
        try:
            output, _ = await process.communicate()
            return process.returncode or 0, output.decode(errors="replace").strip()[-1000:]
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            self._host.guardian.forget(process.pid)
