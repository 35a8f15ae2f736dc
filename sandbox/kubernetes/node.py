"""Starts and stops a whole cluster of one node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from sandbox.kubernetes import build, cgroups, config, folder, images, init, network
from sandbox.kubernetes.addresses import Addresses
from sandbox.kubernetes.api import Api, registry_ready
from sandbox.kubernetes.description import FILE, Cluster
from sandbox.kubernetes.folder import REGISTRY_USER, State
from sandbox.kubernetes.machine import requirements
from sandbox.processes import log_end
from sandbox.services.cache import Tell
from sandbox.settings import FileLock, SandboxError
from sandbox.state import Identity, remove_if_empty

LOCK = "kubernetes.lock"
POLL_SECONDS = 0.05
READY_SECONDS = 90
"""What each stage may take; many times what it takes on an idle machine."""
GONE_SECONDS = 30


class Kubernetes:
    """``with Kubernetes(home) as cluster: ...``: a cluster of one's own, which ends with us even if we are killed.

    :param tell: is given a line of progress now and then
    """

    def __init__(self, home: Path, *, tell: Tell = lambda _: None) -> None:
        self._home = home.resolve()
        self._folder = self._home / folder.FOLDER
        self._tell = tell
        self._init: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Cluster:
        """The node is Ready when this returns; when something fails, nothing is left. Raises SandboxError."""
        if missing := requirements():
            raise SandboxError(" ".join(missing))
        with self._alone():
            if is_up(self._home):
                raise SandboxError(f"a cluster is already up in {self._home}")
            self._clear()
            try:
                return self._start()
            except BaseException:
                self._clear()
                raise

    def detach(self) -> None:
        """Let it outlive us, until somebody stops it."""
        self._order("detach")

    def stop(self) -> None:
        """End everything and remove it, whether it runs or has died. Raises SandboxError when something is left."""
        with self._alone():
            self._clear()

    def _start(self) -> Cluster:
        with self._stage("programs"):
            binaries = build.obtain(self._tell)
        begin = time.monotonic()
        with self._stage("namespaces"):
            addresses, password, pid = self._create(binaries)
        with self._stage("API server"):
            self._launch("etcd", "containerd", "registry", "kube-apiserver")
            etc = self._folder / "etc"
            api = Api(addresses.api, etc / "ca.crt", etc / "admin.crt", etc / "admin.key")
            self._until("the API server", api.ready)
        with self._stage("node"):
            self._launch("kube-controller-manager", "kube-scheduler", "kube-proxy")
            self._import_pause(binaries, pid)
            self._launch("kubelet")
            self._until("the node", lambda: api.node_ready(config.NAME))
        with self._stage("registry"):
            self._until("the registry", lambda: registry_ready(addresses.registry, REGISTRY_USER, password))
        cluster = Cluster(
            kubeconfig=str(self._folder / "kubeconfig"), node=addresses.node, host_prefix=addresses.host_prefix,
            init_pid=pid, registry_url=addresses.registry, registry_user=REGISTRY_USER, registry_password=password,
            registry_mirrors=config.MIRRORED, started_seconds=round(time.monotonic() - begin, 2),
        )  # fmt: skip
        cluster.write(self._folder / FILE)
        return cluster

    def _create(self, binaries: Path) -> tuple[Addresses, str, int]:
        """The namespaces and process 1 in them, which waits for orders."""
        claim = network.Claim.take()
        try:
            addresses = claim.addresses
            self._folder.mkdir(mode=0o700, parents=True)
            State(addresses.number).write(self._folder)
            password = folder.prepare(self._folder, addresses, binaries)
            images.write_pause(binaries / "pause", self._folder / "temp" / "pause.tar")
            cgroups.create(addresses.cgroup)
            self._init = self._spawn(claim.descriptor)
            outer = Identity.of(self._init.pid)
            State(addresses.number, outer).write(self._folder)
            pid = self._first_child(self._init)
            State(addresses.number, outer, Identity.of(pid)).write(self._folder)
            network.connect(addresses, pid)
            self._order("")
            return addresses, password, pid
        finally:
            claim.close()

    def _spawn(self, claim: int) -> subprocess.Popen[bytes]:
        unshare = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--mount-proc"]
        argv = [*unshare, "--propagation", "private", sys.executable, "-I", "-S", init.__file__]
        with (self._folder / "logs" / "init.log").open("ab") as log:
            return subprocess.Popen(
                [*argv, str(self._folder / "etc" / "init.json"), str(claim)], stdin=subprocess.PIPE, stdout=log,
                stderr=log, pass_fds=[claim], start_new_session=True, cwd="/",
            )  # fmt: skip

    def _first_child(self, parent: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + READY_SECONDS
        while parent.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                if children := psutil.Process(parent.pid).children():
                    return children[0].pid
            time.sleep(0.005)
        raise SandboxError(f"the node's namespaces could not be made.{log_end(self._folder / 'logs' / 'init.log')}")

    def _launch(self, *components: str) -> None:
        for component in components:
            self._order(component)

    def _order(self, line: str) -> None:
        assert self._init is not None and self._init.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; whoever waits for the outcome tells why
            self._init.stdin.write(f"{line}\n".encode())
            self._init.stdin.flush()

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        """Poll until ready; raises SandboxError with the end of the logs when it takes too long."""
        assert self._init is not None
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if ready():
                    return
            if self._init.poll() is not None or time.monotonic() > deadline:
                logs = sorted((self._folder / "logs").glob("*.log"))
                raise SandboxError(f"{what} did not become ready.{''.join(map(log_end, logs))}")
            time.sleep(POLL_SECONDS)

    def _import_pause(self, binaries: Path, pid: int) -> None:
        """containerd may still be starting: its socket decides."""
        enter = ["nsenter", f"--target={pid}", "--mount", "--", f"{init.BIN}/ctr", "--namespace=k8s.io"]
        socket = Path(f"/proc/{pid}/root/run/containerd/containerd.sock")
        self._until("containerd", socket.exists)
        argv = [*enter, "images", "import", "--local", f"{init.NODE}/temp/pause.tar"]

        def imported() -> bool:
            return subprocess.run(argv, check=False, capture_output=True).returncode == 0

        self._until("containerd", imported)

    def _clear(self) -> None:
        """End and remove what there is; afterwards nothing is left, or SandboxError says what."""
        state = State.read(self._folder)
        if state is not None:
            self._end(state)
            left = _remove_from_machine(Addresses(state.number))
            if left:
                raise SandboxError(f"the cluster has ended, but this is left of it: {', '.join(left)}")
            folder.remove(self._folder)
            remove_if_empty(self._home)

    def _end(self, state: State) -> None:
        """Kill process 1: the kernel then kills all others there, and it is gone when they are."""
        for process in (state.init, state.outer):
            if process is not None and process.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_SECONDS
        while state.alive:
            if time.monotonic() > deadline:
                raise SandboxError("the cluster's first process does not end: something there hangs in the kernel")
            time.sleep(POLL_SECONDS)
        if self._init is not None:
            self._init.wait()
            self._init = None

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._tell(f"{name:<11} ready after {time.monotonic() - begin:5.2f} s")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock.take(self._home / LOCK)
        if lock is None:
            raise SandboxError(f"a cluster is being started or stopped in {self._home}")
        try:
            yield
        finally:
            lock.release()
            remove_if_empty(self._home)


def is_up(home: Path) -> bool:
    """Whether a cluster runs there, and has finished starting."""
    state = State.read(home.resolve() / folder.FOLDER)
    return bool(state and state.init and state.init.alive and description(home).exists())


def description(home: Path) -> Path:
    """The file that describes the cluster of this home."""
    return home.resolve() / folder.FOLDER / FILE


def ensure_up(home: Path, tell: Tell = print) -> Path:
    """Start a cluster that outlives us if there is none; gives the file that describes it. Raises SandboxError."""
    if not is_up(home):
        kubernetes = Kubernetes(home, tell=tell)
        kubernetes.start()
        kubernetes.detach()
    return description(home)


def _remove_from_machine(addresses: Addresses) -> list[str]:
    """Give back network and control groups; what is left of them afterwards.

    When another cluster has taken the number since ours died, it has cleared it, and all of it is the other's.
    """
    try:
        claim = network.Claim(addresses.number)
    except OSError:
        return []
    try:
        network.disconnect(addresses)
        cgroups.remove(addresses.cgroup)
        return network.remains(addresses) + cgroups.remains(addresses.cgroup)
    finally:
        claim.close()
