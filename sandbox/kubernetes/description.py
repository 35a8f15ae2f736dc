"""What a running cluster tells those who use it: where it answers, and with which credentials."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sandbox.kubernetes import processes
from sandbox.settings import SandboxError

FILE = "cluster.json"
AUDIT = "audit.log"


@dataclass(frozen=True)
class Cluster:
    """A single-node Kubernetes with an image registry; all addresses are reached from this machine only."""

    kubeconfig: str
    """Path of the administrator's kubeconfig; it authenticates with a client certificate."""
    node: str
    """The node's address: NodePorts, ClusterIPs and pod addresses answer from this machine."""
    host_prefix: str
    """First three numbers of the addresses that servers on this machine bind, for pods to reach them. The two bits
    above the third number are free too: ``10.200.0`` stands for 10.200.0.0/18.
    """
    init_pid: int
    """Process 1 of the node as this machine counts, for ``nsenter --net=/proc/<pid>/ns/net``."""
    registry_url: str
    registry_user: str
    registry_password: str = field(repr=False)
    registry_mirrors: tuple[str, ...]
    """Registries whose images the node takes from the registry above, such as ``ghcr.io``."""
    started_seconds: float
    """How long the start took."""

    @property
    def processes(self) -> dict[str, int]:
        """Every component that runs now, and its process id as this machine counts; ids change when one restarts."""
        return processes.components(self.init_pid)

    @property
    def audit_log(self) -> Path:
        """What service accounts asked of the API server in the sandbox's namespaces, as Kubernetes' audit events."""
        return Path(self.kubeconfig).parent / "logs" / AUDIT

    @classmethod
    def read(cls, path: Path) -> Cluster:
        """Raises SandboxError when the file is not such a description."""
        try:
            data = json.loads(path.read_text())
            return cls(**{**data, "registry_mirrors": tuple(data["registry_mirrors"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SandboxError(f"{path} does not describe a cluster: {error}") from None

    def write(self, path: Path) -> None:
        """Only the owner can read the file, for it holds the registry's password."""
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=2)
        os.replace(draft, path)
