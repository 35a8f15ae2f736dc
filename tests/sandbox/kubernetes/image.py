"""A real image of one static program, pushed to a registry with the OCI distribution protocol."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import httpx

from sandbox.kubernetes import Cluster, build

OCI = "application/vnd.oci.image"


def build_hello(folder: Path) -> bytes:
    """A layer with the program in `hello/`."""
    command = build.go()
    assert command is not None
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    source = Path(__file__).parent / "hello" / "main.go"
    subprocess.run([command, "build", "-o", str(folder / "hello"), str(source)], check=True, env=environment)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder / "hello", "hello")
    return buffer.getvalue()


def push(cluster: Cluster, repository: str, layer: bytes) -> str:
    """Gives the digest of the pushed manifest."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    content = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", "digest": _digest(content), "size": len(content)},
        "layers": [{"mediaType": f"{OCI}.layer.v1.tar", "digest": _digest(layer), "size": len(layer)}],
    }
    body = json.dumps(manifest).encode()
    url, credentials = cluster.registry_url, (cluster.registry_user, cluster.registry_password)
    with httpx.Client(base_url=url, auth=credentials, timeout=30, trust_env=False) as client:
        for blob in (layer, content):
            upload = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status().headers["location"]
            client.put(upload, params={**dict(httpx.URL(upload).params), "digest": _digest(blob)}, content=blob)
        headers = {"content-type": manifest["mediaType"]}
        client.put(f"/v2/{repository}/manifests/{_digest(body)}", content=body, headers=headers).raise_for_status()
    return _digest(body)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
