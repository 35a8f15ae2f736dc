"""How to reach the cluster's API, stand-in or real, as somebody who may do everything in it."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from sandbox.settings import Settings


@dataclass(frozen=True)
class Access:
    """Address and bearer token of a Kubernetes API."""

    url: str
    token: str
    ca: str = ""
    """Path of the certificate that signed the server's; empty where the API is plain HTTP."""

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """Paths are those of the API: ``client.get("/api/v1/nodes")``."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}, trust_env=False,
            timeout=30, verify=ssl.create_default_context(cafile=self.ca) if self.ca else True,
        )  # fmt: skip


def kubeconfig(settings: Settings) -> Path:
    """What Airflow's connection `pms_kubernetes` and a person's kubectl use."""
    return settings.home / "cluster" / "kubeconfig"


def access(settings: Settings) -> Access:
    if settings.cluster is None:
        return Access(settings.url("kubernetes"), settings.secrets.cluster)
    return Access(**json.loads(_file(settings).read_text()))


def remember(settings: Settings, found: Access) -> None:
    """Of a real cluster, whose token is not ours to choose; readable by its owner alone."""
    with os.fdopen(os.open(_file(settings), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(found), file)


def _file(settings: Settings) -> Path:
    return settings.folder("cluster") / "access.json"
