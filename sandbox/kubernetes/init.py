"""Process 1 of a node: has the namespaces to itself, prepares them, keeps the components running, and reaps orphans.

Runs as ``python -I -S init.py SPEC CLAIM`` under ``unshare --pid --mount --net``, with the standard library alone.
SPEC is the path of a JSON file (see `config.init_spec`), CLAIM an open file descriptor that it keeps until it ends.
Standard input tells it what to do, a line each: the name of a component to start, or ``detach``; when the input ends
before that, its owner is dead, and it ends as well. The kernel then ends everything in these namespaces.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOP = Path("/run/pms")
BIN, NODE = TOP / "bin", TOP / "node"
RESTART_SECONDS = 0.5
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000,
}  # fmt: skip
"""What a kubelet would set, for the whole machine. It finds these in files of ours, and leaves the machine alone."""


def log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def mount_all(spec: dict[str, Any]) -> None:
    """The node's own /run, /var/lib and /var/log, so that every component finds its usual paths, and only its own."""
    binaries, node = spec["binaries"], spec["node"]
    # Opened first: either path may lie below what is about to be covered.
    held = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (binaries, node)]
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    for source, target in zip(held, (BIN, NODE), strict=True):
        target.mkdir(parents=True)
        subprocess.run(["mount", "--bind", f"/proc/self/fd/{source}", str(target)], check=True, pass_fds=[source])
        os.close(source)
    for covered in ("/var/lib", "/var/log"):
        run("mount", "--bind", f"{NODE}{covered}", covered)
    for name, value in KERNEL_SETTINGS.items():
        shown = TOP / "sysctl" / name
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        run("mount", "--bind", str(shown), f"/proc/sys/{name}")


def configure_network(spec: dict[str, Any]) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{spec['address']}/30", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", spec["gateway"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        bridged.write_text("1")


class Init:
    """Keeps running what it was told to start."""

    def __init__(self, components: dict[str, list[str]]) -> None:
        self._components = components
        self._running: dict[int, str] = {}
        self._due: dict[str, float] = {}
        path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = {"PATH": path, "HOME": str(NODE), "TMPDIR": f"{NODE}/temp"}

    def start(self, name: str) -> None:
        out = os.open(NODE / "logs" / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        argv = self._components[name]
        streams = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
        pid = os.posix_spawn(argv[0], argv, self._environment, file_actions=streams, setsid=True)
        os.close(out)
        os.close(null)
        self._running[pid] = name
        log(f"{name} started as process {pid}")

    def start_due(self) -> float | None:
        """Start what has waited long enough; gives how long to wait for the next, in seconds."""
        now = time.monotonic()
        for name in [name for name, at in self._due.items() if at <= now]:
            del self._due[name]
            self.start(name)
        return max(0.0, min(self._due.values()) - now) if self._due else None

    def reap(self) -> None:
        """Collect every process that has ended; a component is started again a moment later."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if name := self._running.pop(pid, None):
                log(f"{name} ended with code {os.waitstatus_to_exitcode(status)}")
                self._due[name] = time.monotonic() + RESTART_SECONDS


def obey(init: Init) -> None:
    """Until we are told to end, or our owner dies before it has let go of us."""
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    told = ""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(init.start_due()):
                content = os.read(key.fd, 4096)
                if key.fd == woken:
                    continue
                if not content:
                    log("our owner is gone")
                    return
                *lines, told = (told + content.decode()).split("\n")
                for line in lines:
                    if line == "detach":
                        selector.unregister(0)
                    else:
                        init.start(line)
            init.reap()


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    os.set_inheritable(int(sys.argv[2]), False)
    # The machine's end of the link is made when it knows our process; it tells so with an empty line.
    if not os.read(0, 1):
        return
    mount_all(spec)
    configure_network(spec)
    os.chdir("/")
    os.umask(0o022)
    log("namespaces ready")
    obey(Init(spec["components"]))


if __name__ == "__main__":
    main()
