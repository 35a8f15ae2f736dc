"""What a cluster could leave on the machine, looked at from the machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from sandbox.kubernetes import Cluster, cgroups, init
from sandbox.kubernetes.network import Claim

MARKS = ("KUBE", "CNI", "cni", "kube", "containerd", "etcd", "/run/pms", *init.KERNEL_SETTINGS)
"""In the name of whatever the components make."""


@dataclass(frozen=True)
class Traces:
    """Everything of each kind, whoever it belongs to."""

    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    groups: frozenset[str]
    settings: frozenset[str]
    folders: frozenset[str]

    def since(self, earlier: Traces, marks: tuple[str, ...]) -> dict[str, list[str]]:
        """What has been added, by kind, and bears one of the marks: others may come and go on the machine meanwhile."""
        found = {}
        for name in (one.name for one in fields(self)):
            added = getattr(self, name) - getattr(earlier, name)
            if marked := sorted(line for line in added if any(mark in line for mark in marks)):
                found[name] = marked
        return found


def made_by(cluster: Cluster, earlier: Traces) -> dict[str, list[str]]:
    """What a running cluster has added to the machine."""
    return look().since(earlier, (*MARKS, *_numbered(cluster), _home(cluster)))


def left_by(cluster: Cluster, earlier: Traces) -> dict[str, list[str]]:
    """What is left of a cluster that has ended; when another has its number by now, that one is not to blame."""
    try:
        claim = Claim(_number(cluster))
    except OSError:
        return look().since(earlier, (*MARKS, _home(cluster)))
    try:
        return made_by(cluster, earlier)
    finally:
        claim.close()


def _numbered(cluster: Cluster) -> tuple[str, ...]:
    number = _number(cluster)
    return (f"pms{number}", f"/pms-{number}", f"10.{number}.")


def _number(cluster: Cluster) -> int:
    return int(cluster.node.split(".")[1])


def _home(cluster: Cluster) -> str:
    return str(Path(cluster.kubeconfig).parents[1])


def look() -> Traces:
    routes = _lines("ip", "route", "show", "table", "all")
    return Traces(
        mounts=frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        links=frozenset(link["ifname"] for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))),
        routes=frozenset(route for route in routes if not route.startswith(("fe80", "multicast", "local fe80"))),
        rules=frozenset(line for line in _lines("iptables-save") if line.startswith(("-A", ":"))),
        groups=frozenset(str(path) for root in cgroups.hierarchies() for path in root.iterdir() if path.is_dir()),
        settings=frozenset(f"{name}={Path('/proc/sys', name).read_text()}" for name in init.KERNEL_SETTINGS),
        folders=frozenset(str(path) for folder in ("/run", "/var/lib", "/var/log") for path in Path(folder).iterdir()),
    )


def processes(init_pid: int) -> list[psutil.Process]:
    """Process 1 of the cluster and everything below it; those of pods have a namespace within its own."""
    init_process = psutil.Process(init_pid)
    return [init_process, *init_process.children(recursive=True)]


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; one that its parent has yet to collect has ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _lines(*argv: str) -> list[str]:
    # iptables-save counts packets; the rest of what these print stays as it is.
    return [line.split(" [")[0] for line in subprocess.check_output(argv, text=True).splitlines()]
