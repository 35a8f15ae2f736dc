"""A Docker daemon in namespaces of its own: what it does to network, mounts and processes is gone with it.

Its way out is slirp4netns, a process of ours that opens its containers' connections from this machine: no link, no
route and no firewall rule is added here. So containers reach whatever this machine reaches but its own loopback.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil

from sandbox.docker import roots
from sandbox.kubernetes import cgroups
from sandbox.processes import POLL_SECONDS, Process
from sandbox.settings import SandboxError

Result = TypeVar("Result")
READY_SECONDS = 60
PROGRAMS = {
    "unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2", "apt-get": "apt",
    "perl": "perl",
}  # fmt: skip
"""Program, and the Debian package that has it."""
_CGROUP = "pms-docker-"
"""Begins the name of a Docker host's control group; the process id of its owner ends it."""
_CLONE_NEWNET = 0x40000000
_WEIGHTS = {"cpu.shares": 16384, "cpu.weight": 1600}
"""Sixteen times that of one process (control groups version 1 and 2): all containers together would else get no more
of a busy machine than any single process outside of them.
"""


def requirements() -> list[str]:
    """What keeps a Docker host from being started here, a sentence each."""
    if os.geteuid() != 0:
        return ["A Docker host needs root, for namespaces, mounts and control groups."]
    missing = [
        f"The program {program} is missing: install {package}."
        for program, package in PROGRAMS.items() if shutil.which(program) is None
    ]  # fmt: skip
    if not Path("/dev/net/tun").exists():
        missing.append("There is no /dev/net/tun, which the network of the Docker host needs: modprobe tun.")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        missing.append("The kernel has no overlay file system: modprobe overlay.")
    return missing


class DockerHost:
    """``with DockerHost(folder, shared=[project]) as host: host.run("docker", "ps")``

    :param folder: made, filled and removed
    :param shared: folders that are found inside under the same path, to be mounted into containers
    """

    def __init__(self, folder: Path, shared: Iterable[Path] = ()) -> None:
        self.folder = folder.resolve()
        self._shared = [path.resolve() for path in shared]
        self._root = self.folder / "root"
        self._cgroup = f"{_CGROUP}{os.getpid()}"
        self._processes: list[Process] = []
        self._init = 0

    def __enter__(self) -> DockerHost:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Docker answers when this returns; when something fails, nothing is left. Raises SandboxError."""
        self.folder.mkdir(mode=0o700)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        roots.host_root(self._root, self.folder / "mmdebstrap.log")
        _remove_groups_of_the_dead()
        cgroups.create(self._cgroup)
        _weigh(self._cgroup)
        script = Path(__file__).with_name("init.sh")
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh"]
        init = self._own("docker-host", [*unshare, script, self._root, self._cgroup, *self._shared])
        deadline = time.monotonic() + READY_SECONDS
        _until(lambda: self._found_init(init), "has no namespaces", init, deadline)
        network = self._own("docker-network", _slirp4netns(self._root, f"/proc/{self._init}/ns/net"))
        _until(lambda: self._answers(network), "does not answer", init, deadline)

    def stop(self) -> None:
        """Ends everything; the kernel takes mounts and network away with the last process."""
        for process in reversed(self._processes):
            process.stop(grace_seconds=0)
        cgroups.remove(self._cgroup)
        shutil.rmtree(self.folder)

    def run(self, *argv: str, stdin: Path | str = "", check: bool = True, timeout: float = 1200) -> str:
        """What the command prints; it finds the host's programs and files. Raises SandboxError when it fails.

        :param stdin: text, or a file of ours
        """
        command = ["nsenter", f"--target={self._init}", "--mount", "--net", "--pid", "--root", "--wdns=/", "--", *argv]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        text = stdin.read_bytes() if isinstance(stdin, Path) else stdin.encode()
        done = subprocess.run(command, env=environment, input=text, check=False, capture_output=True, timeout=timeout)
        if check and done.returncode:
            end = "\n".join(done.stderr.decode(errors="replace").splitlines()[-30:])
            raise SandboxError(f"`{' '.join(argv)}` ended with code {done.returncode}:\n{end}")
        return done.stdout.decode(errors="replace")

    def inside(self, function: Callable[[], Result]) -> Result:
        """Call it in a thread whose sockets are those of the host's network: its 127.0.0.1 is the Docker host's."""
        with ThreadPoolExecutor(max_workers=1, initializer=self._enter_network) as pool:
            return pool.submit(function).result()

    def _enter_network(self) -> None:
        with open(f"/proc/{self._init}/ns/net") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise SandboxError(
                    f"the network of the Docker host cannot be entered: {os.strerror(ctypes.get_errno())}"
                )

    def _own(self, name: str, argv: Sequence[str | Path]) -> Process:
        process = Process(name, argv, self.folder / f"{name}.log")
        self._processes.append(process)
        return process

    def _found_init(self, unshare: Process) -> bool:
        """The child of `unshare`, once it has a network of its own: nothing may ever be done to ours."""
        for child in psutil.Process(unshare.pid).children():
            if os.readlink(f"/proc/{child.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
                self._init = child.pid
                return True
        return False

    def _answers(self, network: Process) -> bool:
        network.check()
        return bool(self.run("docker", "version", "--format", "{{.Server.Version}}", check=False).strip())


def _slirp4netns(root: Path, network: str) -> list[str | Path]:
    """Its program and libraries are the Docker host's, while it runs among our own processes."""
    loader, libraries = root / "lib64" / "ld-linux-x86-64.so.2", root / "usr" / "lib" / "x86_64-linux-gnu"
    program: list[str | Path] = [loader, "--library-path", libraries, root / "usr" / "bin" / "slirp4netns"]
    return [*program, "--configure", "--disable-host-loopback", "--netns-type=path", network, "tap0"]


def _remove_groups_of_the_dead() -> None:
    """All else that a Docker host is goes with its processes; this is left when its owner was killed."""
    found = {folder.name for hierarchy in cgroups.hierarchies() for folder in hierarchy.glob(f"{_CGROUP}*")}
    for name in found:
        if not psutil.pid_exists(int(name.removeprefix(_CGROUP))):
            cgroups.remove(name)


def _weigh(cgroup: str) -> None:
    for hierarchy in cgroups.hierarchies():
        for name, weight in _WEIGHTS.items():
            if (hierarchy / cgroup / name).exists():
                (hierarchy / cgroup / name).write_text(str(weight))


def _until(true: Callable[[], bool], what: str, process: Process, deadline: float) -> None:
    while not true():
        process.check()
        if time.monotonic() > deadline:
            raise SandboxError(f"the Docker host {what} after {READY_SECONDS} s; see {process.log}")
        time.sleep(POLL_SECONDS)
