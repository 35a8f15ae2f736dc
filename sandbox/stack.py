"""A whole sandbox, or chosen parts of it: starts them side by side and stops them without a trace."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import endpoints, state
from sandbox.processes import Process, kill_sessions
from sandbox.services.airflow import Airflow
from sandbox.services.aws import Aws
from sandbox.services.cluster import Cluster, Images
from sandbox.services.component import Component, Context
from sandbox.services.databases import Metadata, Primary, Replica, Staging
from sandbox.services.edge import Edge
from sandbox.services.mail import Mail
from sandbox.services.real_cluster import RealCluster, ReleaseImages
from sandbox.services.recorder import Recorder
from sandbox.services.registry import Registry
from sandbox.services.watch import Watch
from sandbox.services.workloads import Workloads
from sandbox.settings import FileLock, SandboxError, Settings, Subnet

if TYPE_CHECKING:
    from sandbox.kubernetes.description import Cluster as Description

COMPONENTS: dict[str, type[Component]] = {
    kind.name: kind
    for kind in (
        Metadata, Airflow, Primary, Replica, Images, Cluster, Staging, Workloads, Recorder, Registry, Mail, Aws, Edge,
        Watch,
    )
}  # fmt: skip
"""In the order in which they start where nothing else decides: what others wait for longest comes first."""
REAL: dict[str, type[Component]] = {
    **{name: kind for name, kind in COMPONENTS.items() if name != Registry.name},
    ReleaseImages.name: ReleaseImages,
    RealCluster.name: RealCluster,
}
"""The same on a real cluster, which comes with a registry."""


@dataclass(frozen=True)
class Progress:
    """A component begins to start, is ready `seconds` after its beginning, or has a warning."""

    component: str
    seconds: float | None = None
    warning: str = ""


class Sandbox:
    """``with Sandbox(home, small=True, only=["primary", "replica"]) as sandbox: sandbox.settings.dsn(...)``

    :param plans: a folder of plan files to use instead of the repository's
    :param only: names components; what they need is started as well. All of them by default.
    :param network: first two numbers of the addresses to serve on, such as ``10.77``, instead of a free ``127.k``; the
        machine must take all of it for its own (``ip route add local 10.77.0.0/16 dev lo``)
    :param cluster: a real Kubernetes to use instead of the stand-in, with the network that its pods reach
    """

    def __init__(
        self, home: Path, *, small: bool = False, overlay: Path | None = None, plans: Path | None = None,
        only: Iterable[str] | None = None, keep_logs: bool = False,
        progress: Callable[[Progress], None] = lambda _: None, network: str | None = None,
        cluster: Description | None = None,
    ) -> None:  # fmt: skip
        self.home = home.resolve()
        self.keep_logs = keep_logs
        self._small, self._overlay, self._plans, self._cluster = small, overlay, plans, cluster
        self._network = cluster.host_prefix.rpartition(".")[0] if cluster else network
        kinds = REAL if cluster else COMPONENTS
        self._components = _with_needs(kinds if only is None else only, kinds)
        self._progress = progress
        self._processes: list[tuple[Component, Process]] = []
        self._begun: set[str] = set()
        self._stopping = False
        self.is_up = False
        self._guard = threading.Lock()
        self._lock: FileLock | None = None
        self._subnet: Subnet | None = None

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def processes(self) -> list[Process]:
        return [process for _, process in self._processes]

    @property
    def endpoints(self) -> endpoints.Endpoints:
        pids = {process.name: process.pid for process in self.processes}
        return endpoints.describe(self.settings, {"supervisor": os.getpid(), **pids})

    def start(self) -> Sandbox:
        """Everything is ready when this returns; when something fails, nothing is left. Raises SandboxError."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock.take(self.home / state.LOCK)
        if self._lock is None:
            raise SandboxError(f"a sandbox is already up, or on its way, in {self.home}")
        try:
            state.clear(self.home)
            self._subnet = Subnet(self._network)
            run = self.home / state.RUN
            run.mkdir(mode=0o700)
            state.write(self.home, [])
            self.settings = Settings(
                run,
                self._subnet.prefix,
                small=self._small,
                overlay=self._overlay,
                plans=self._plans,
                cluster=self._cluster,
            )
            needs = {name: set(component.needs) for name, component in self._components.items()}
            _each(needs, self._start_one, self._abandon)
            endpoints.write(self.home / endpoints.FILE, self.endpoints)
        except BaseException:
            self.stop()
            raise
        self.is_up = True
        return self

    def stop(self) -> None:
        """Stop in the opposite order, and remove everything but, if asked to, the logs."""
        self._stopping, self.is_up = True, False
        needed_by = {
            name: {other for other, component in self._components.items() if name in component.needs}
            for name in self._components
        }
        _each(needed_by, self._stop_one, lambda: None)
        if self._subnet is not None:
            state.remove(self.home, keep_logs=self.keep_logs)
            self._subnet.close()
        if self._lock is not None:
            self._lock.release()
        state.remove_if_empty(self.home)

    def _start_one(self, name: str) -> None:
        component = self._components[name]
        self._begun.add(name)
        self._progress(Progress(name))
        begin = time.monotonic()
        context = Context(
            self.settings,
            own=lambda process: self._own(component, process),
            warn=lambda text: self._progress(Progress(name, warning=text)),
        )
        component.start(context)
        self._progress(Progress(name, time.monotonic() - begin))

    def _stop_one(self, name: str) -> None:
        component = self._components[name]
        mine = [process for owner, process in self._processes if owner is component]
        for process in mine:
            process.ask_to_end()
        deadline = time.monotonic() + component.grace_seconds
        for process in mine:
            process.stop(max(0.0, deadline - time.monotonic()))
        if name in self._begun:
            component.remove(self.settings)

    def _abandon(self) -> None:
        """Something failed: end what runs, so that nobody waits for it to become ready."""
        with self._guard:
            self._stopping = True
        kill_sessions(process.pid for process in self.processes)

    def _own(self, component: Component, process: Process) -> Process:
        with self._guard:
            self._processes.append((component, process))
            state.write(self.home, self.processes)
            if self._stopping:
                process.stop(grace_seconds=0)
                raise SandboxError("the sandbox is being stopped")
        return process


def _each(needs: Mapping[str, set[str]], action: Callable[[str], None], on_error: Callable[[], None]) -> None:
    """Apply the action to every name once those it needs are done, as many side by side as there can be.

    On the first error, `on_error` is called at once, and the error raised when the actions under way have ended.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(needs))) as pool:
        try:
            while sorter.is_active():
                ready = set(sorter.get_ready())
                running |= {pool.submit(action, name): name for name in needs if name in ready}
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    sorter.done(running.pop(future))
        except BaseException:
            on_error()
            raise


def _with_needs(names: Iterable[str], kinds: Mapping[str, type[Component]]) -> dict[str, Component]:
    chosen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in kinds:
            raise SandboxError(f"there is no component {name!r}, only {', '.join(kinds)}")
        if name not in chosen:
            chosen.add(name)
            todo.extend(kinds[name].needs)
    return {name: kind() for name, kind in kinds.items() if name in chosen}
