"""Finds the processes of a running node, and what memory they take."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import PurePath

import psutil

COMPONENTS = (
    "etcd", "containerd", "registry", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
    "kube-proxy",
)  # fmt: skip
SHIMS, PODS, INIT = "containerd-shims", "pods", "init"


def components(init_pid: int) -> dict[str, int]:
    """The components that run now, by name; none when the node is down."""
    found = {}
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(init_pid).children():
            with contextlib.suppress(psutil.Error):
                name = _program(child)
                if name in COMPONENTS:
                    found[name] = child.pid
    return {name: found[name] for name in COMPONENTS if name in found}


def memory(init_pid: int) -> dict[str, int]:
    """Bytes by component, and those of the shims and the pods; pages that processes share count once (PSS)."""
    used: dict[str, int] = defaultdict(int)
    with contextlib.suppress(psutil.Error):
        init = psutil.Process(init_pid)
        for process in [init, *init.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                used[_group(process, init_pid)] += process.memory_full_info().pss
    return dict(used)


def _group(process: psutil.Process, init_pid: int) -> str:
    name = _program(process)
    if process.pid == init_pid:
        return INIT
    if name in COMPONENTS and process.ppid() == init_pid:
        return name
    return SHIMS if name.startswith("containerd-shim") else PODS


def _program(process: psutil.Process) -> str:
    """The name of its command, whole: the kernel cuts names at 15 characters."""
    argv = process.cmdline()
    return PurePath(argv[0]).name if argv else process.name()
