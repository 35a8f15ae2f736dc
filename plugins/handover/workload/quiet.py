"""Whether pods still serve anybody: their own request counters, twice, a few seconds apart."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from handover.coordination.routing import ready_pods
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from handover.ports.kube import Kube

METRICS_PATH = "/metrics"
REQUESTS = re.compile(r"^http_requests_total(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)
"""Counts every answer except those to the kubelet's probes and to /metrics itself."""


def requests_total(text: str) -> float | None:
    """Requests answered since the process began, from Prometheus text; None when the metric is not there."""
    values = [float(value) for value in REQUESTS.findall(text)]
    return sum(values) if values else None


def served(before: dict[str, float | None], after: dict[str, float | None]) -> float | None:
    """Requests answered by all pods between two looks; None (no data) when a pod did not tell the second time.

    A pod that is new or started again counts from 0, and a counter that was never touched is 0.
    """
    if any(value is None for value in after.values()):
        return None
    total = 0.0
    for pod, value in after.items():
        old = before.get(pod) or 0.0
        total += (value or 0.0) - (old if old <= (value or 0.0) else 0.0)
    return total


async def counters(kube: Kube, labels: dict[str, str], port: int) -> dict[str, float | None]:
    """The request counter of every ready pod, through the API server's pod proxy."""
    pods = await ready_pods(kube, labels)
    return dict(zip(pods, await asyncio.gather(*(_counter(kube, pod, port) for pod in pods)), strict=True))


async def _counter(kube: Kube, pod: str, port: int) -> float | None:
    try:
        text = await kube.proxy(pod, port, METRICS_PATH, timeout=2.0)
    except KubeError:
        return None
    total = requests_total(text)
    return 0.0 if total is None and "# TYPE http_requests_total" in text else total
