"""A web shop that nobody here wrote: six pods, a sidecar, a Service by one label, an HPA, an Ingress, Micrometer."""

from __future__ import annotations

import copy
from typing import Any

PAGE = """\
# TYPE http_server_requests_seconds histogram
http_server_requests_seconds_bucket{status="200",uri="/shop",le="0.1"} 8
http_server_requests_seconds_bucket{status="200",uri="/shop",le="+Inf"} 9
http_server_requests_seconds_count{status="200",uri="/shop"} 9
process_cpu_time_ns_total 5
process_memory_usage_bytes 5
"""

SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "nodePort": 30001}]},
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
    "spec": {
        "replicas": 6, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {
                "labels": {"app": "web", "team": "shop", "pod-template-hash": "abc"},
                "annotations": {"prometheus.io/path": "/actuator/prometheus", "kubectl.kubernetes.io/restartedAt": "x"},
            },
            "spec": {
                "containers": [
                    {"name": "istio-proxy", "image": "istio/proxyv2:1.27.0", "ports": [{"containerPort": 15090}]},
                    {
                        "name": "web", "image": "registry:5000/shop/web:v1.4.2",
                        "ports": [{"name": "http", "containerPort": 8081}],
                        "env": [{"name": "GREETING", "value": "costs $5"}],
                        "envFrom": [{"secretRef": {"name": "web-settings"}}],
                        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                        "readinessProbe": {"httpGet": {"path": "/actuator/health/readiness", "port": "http"}},
                    },
                ]
            },
        },
    },
    "status": {"readyReplicas": 6},
}  # fmt: skip
SCALER = {
    "metadata": {"name": "web"},
    "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 6, "maxReplicas": 20},
}
INGRESS = {
    "metadata": {"name": "shop"},
    "spec": {
        "rules": [{"host": "shop.example.com", "http": {"paths": [{"backend": {"service": {"name": "web"}}}]}}],
    },
}


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one value changed, or left out when it is None."""
    found = copy.deepcopy(base)
    *folders, key = path.split(".")
    place: Any = found
    for folder in folders:
        place = place[int(folder) if isinstance(place, list) else folder]
    last: Any = int(key) if isinstance(place, list) else key
    if value is None:
        del place[last]
    else:
        place[last] = value
    return found
