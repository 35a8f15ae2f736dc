"""The few questions that the start asks the API server and the registry."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 5


class Api:
    """The API server, as its administrator; every call raises OSError (HTTPError is one) until there is an answer."""

    def __init__(self, address: str, authority: Path, certificate: Path, key: Path) -> None:
        self._address = address
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._tls.load_cert_chain(certificate, key)

    def ready(self) -> bool:
        self._get("/readyz")
        return True

    def node_ready(self, name: str) -> bool:
        """Whether pods can be started: the node takes them, and their service account exists."""
        self._get("/api/v1/namespaces/default/serviceaccounts/default")
        node: dict[str, Any] = json.loads(self._get(f"/api/v1/nodes/{name}"))
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._address + path, context=self._tls, timeout=TIMEOUT_SECONDS) as answer:
            return answer.read()


def registry_ready(address: str, user: str, password: str) -> bool:
    """Whether it answers this user; raises OSError as long as it does not."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(f"{address}/v2/", headers={"Authorization": f"Basic {credentials}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return answer.status == 200
