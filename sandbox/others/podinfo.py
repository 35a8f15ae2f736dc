"""podinfo: it says its version in a body only, counts requests by `status`, and has neither a database nor a login."""

from __future__ import annotations

from sandbox.kubernetes import build
from sandbox.others.service import OtherService

FIRST, GOOD, BAD, NEVER_READY = "6.9.2", "6.9.3", "6.9.4", "6.9.5"
PODINFO = OtherService(
    name="podinfo",
    image="ghcr.io/stefanprodan/podinfo",
    port=9898,
    releases={
        FIRST: {}, GOOD: {},
        BAD: {"PODINFO_RANDOM_ERROR": "true"},  # one answer in three
        NEVER_READY: {"PODINFO_UNREADY": "true"},
    },
    programs=lambda: build.podinfo((FIRST, GOOD, BAD, NEVER_READY), print),
    container={
        "env": [
            {"name": "PODINFO_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PODINFO_LEVEL", "value": "warn"},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
    },
)  # fmt: skip
