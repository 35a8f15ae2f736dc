"""Where a Service is reached from this machine: by its name within the cluster, at a port of a node, or itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from handover.adoption.entry import bracketed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handover.ports.kube import Json, Kube

CONNECT_SECONDS = 2.0
PORTS = {"http": 80, "https": 443}


def is_within(url: str) -> bool:
    """Whether that is a name which only who is in the cluster knows (`entry.within`)."""
    return (urlsplit(url).hostname or "").endswith(".svc")


async def reached(kube: Kube, service: str, known: str) -> str:
    """The address that answers from here: the known one, or else one of the Service; "" when none does.

    Raises `KubeError`.
    """
    if await _connects(known):
        return known
    found = await kube.get("services", service)
    pods = await kube.list("pods", dict(found["spec"].get("selector") or {}))
    for one in _of(found["spec"], pods):
        if await _connects(one):
            return one
    return ""


def _of(spec: Json, pods: list[Json]) -> Iterator[str]:
    port = (spec.get("ports") or [{}])[0]
    nodes = dict.fromkeys(str(pod["status"]["hostIP"]) for pod in pods if (pod.get("status") or {}).get("hostIP"))
    if node_port := port.get("nodePort"):
        yield from (f"http://{bracketed(node)}:{node_port}" for node in nodes)
    if (own := spec.get("clusterIP")) and own != "None":
        yield f"http://{bracketed(own)}:{port.get('port', 80)}"


async def _connects(url: str) -> bool:
    where = urlsplit(url)
    with suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(where.hostname, where.port or PORTS.get(where.scheme, 80))
        writer.close()
        return True
    return False
