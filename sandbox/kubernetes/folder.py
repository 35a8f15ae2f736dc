"""The folder of one cluster below a home folder: who runs it, and the files of its node."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.kubernetes import config
from sandbox.kubernetes.addresses import Addresses
from sandbox.kubernetes.certificates import Authority, Pair, signing_keys
from sandbox.settings import SandboxError
from sandbox.state import Identity

FOLDER = "kubernetes"
STATE = "state.json"
"""Its presence says that the folder is ours and may be removed."""
REGISTRY_USER = "deployer"


_CLIENTS = ("kube-controller-manager", "kube-scheduler", "kube-proxy")


@dataclass(frozen=True)
class State:
    """The number of the cluster, and its first processes once there are any."""

    number: int
    outer: Identity | None = None
    """The program that made the namespaces, outside of them; it holds the claim on the number, as `init` does."""
    init: Identity | None = None
    """Process 1 of the node."""

    @property
    def alive(self) -> bool:
        return any(process.alive for process in (self.outer, self.init) if process)

    def write(self, folder: Path) -> None:
        private(folder / f"{STATE}.new", json.dumps(asdict(self)))
        os.replace(folder / f"{STATE}.new", folder / STATE)

    @classmethod
    def read(cls, folder: Path) -> State | None:
        """None when there is no such folder. Raises SandboxError when the folder is not ours, or cannot be read."""
        if not folder.exists():
            return None
        try:
            data = json.loads((folder / STATE).read_text())
            outer, init = (Identity(**data[name]) if data[name] else None for name in ("outer", "init"))
            return cls(data["number"], outer, init)
        except (OSError, ValueError, KeyError, TypeError):
            raise SandboxError(f"{folder} was not made by a cluster; choose another home, or remove it") from None


def private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def prepare(folder: Path, addresses: Addresses, binaries: Path) -> str:
    """All files of a node that has never run; gives the registry's password."""
    for name in ("etc/cni", "var/log", "logs", "temp"):
        (folder / name).mkdir(parents=True)
    for mirrored in config.MIRRORED:
        (folder / "etc" / "mirrors" / mirrored).mkdir(parents=True)
    for owner in ("etcd", "kubelet", "containerd", "registry", "cni"):
        (folder / "var" / "lib" / owner).mkdir(parents=True, mode=0o700)
    password = secrets.token_hex(24)
    etc = folder / "etc"
    _credentials(folder, addresses)
    for mirrored in config.MIRRORED:
        private(etc / "mirrors" / mirrored / "hosts.toml", config.mirror(addresses, REGISTRY_USER, password))
    private(etc / "htpasswd", _password_file(binaries, password))
    private(etc / "audit.yaml", config.audit())
    private(etc / "kubelet.yaml", config.kubelet(addresses))
    private(etc / "containerd.toml", config.containerd(addresses))
    private(etc / "registry.yaml", config.registry(addresses, secrets.token_hex(24)))
    private(etc / "cni" / "10-pods.conflist", config.pod_network(addresses))
    private(etc / "resolv.conf", f"nameserver {addresses.node}\n")
    private(etc / "init.json", json.dumps(config.init_spec(addresses, str(binaries), str(folder))))
    return password


def _credentials(folder: Path, addresses: Addresses) -> None:
    authority, etc = Authority(), folder / "etc"
    private(etc / "ca.crt", authority.certificate)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    pairs = {
        "api-server": authority.server("kube-apiserver", [addresses.node, addresses.api_service], names),
        "kubelet-server": authority.server(config.NAME, [addresses.node], [config.NAME]),
        "api-to-kubelet": authority.client("kube-apiserver-kubelet-client", ["system:masters"]),
        "admin": authority.client("admin", ["system:masters"]),
    }
    for name, pair in pairs.items():
        private(etc / f"{name}.crt", pair.certificate)
        private(etc / f"{name}.key", pair.key)
    private_key, public_key = signing_keys()
    private(etc / "service-accounts.key", private_key)
    private(etc / "service-accounts.pub", public_key)
    clients: dict[str, Pair] = {
        "kubelet": authority.client(f"system:node:{config.NAME}", ["system:nodes"]),
        **{name: authority.client(f"system:{name}") for name in _CLIENTS},
    }
    for name, pair in clients.items():
        private(etc / f"{name}.kubeconfig", config.kubeconfig(addresses.api, authority.certificate, pair))
    private(folder / "kubeconfig", config.kubeconfig(addresses.api, authority.certificate, pairs["admin"]))


def _password_file(binaries: Path, password: str) -> bytes:
    command = [str(binaries / "htpasswd"), REGISTRY_USER]
    return subprocess.run(command, input=password.encode(), check=True, capture_output=True).stdout


def remove(folder: Path) -> None:
    """The state goes last: as long as it is there, the rest can be removed by another try."""
    for entry in folder.iterdir():
        if entry.name != STATE:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (folder / STATE).unlink(missing_ok=True)
    folder.rmdir()
