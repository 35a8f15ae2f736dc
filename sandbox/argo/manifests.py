"""What is measured of Argo Rollouts, as objects of the cluster. Pure: values in, manifests out.

The pods are those of our own Deployment. The analysis after the switch is as tight as it goes: one bad answer is
enough.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
NAMESPACE = "argo-comparison"
NAME = "pms"
LABELS = {"app": "pms-argo"}
ACTIVE, PREVIEW, ANALYSIS = "pms-active", "pms-preview", "watch"
ACTIVE_PORT, PREVIEW_PORT = 30090, 30091
"""Ports of the node."""
GROUP = "argoproj.io/v1alpha1"
HASH = "rollouts-pod-template-hash"
"""The label by which Argo tells the pods of one template, and by which its Services select them."""
ANSWERS, TRACKER = "answers", "error-tracker"
EVERY_SECOND, TIGHTEST = "1s", "100ms"
"""Intervals of an analysis. The second is that of our own probes; it makes Argo a busy loop for most of every second,
as its timestamps have whole seconds: a sample is due when now is so much later than the second of the last one.
"""
MOST = 1_000_000
"""Samples of an analysis: without a count it would be refused."""
MISSED = 1
"""Samples of the error tracker that may be missed in a row; one more is a verdict."""
RETRY_SECONDS = 10
"""After a sample that gave no data Argo asks again so much later, whatever the interval (`DefaultErrorRetryInterval`).
So a source may be silent for MISSED times this: our ``watch.no_data_seconds`` is set to the same.
"""
NEW_CONNECTION = {"key": "Connection", "value": "close"}
"""Argo would keep the connection of its first sample, which is as old as the switch: often it leads to the old version,
and every later sample is good.
"""
TRACKER_PATH = "/sentry/api/0/projects/ai-hotel/pms/issues/"


def services(port: int) -> list[Object]:
    """The active and the preview Service, each with a port of the node."""
    found = []
    for name, node_port in ((ACTIVE, ACTIVE_PORT), (PREVIEW, PREVIEW_PORT)):
        ports = [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP", "nodePort": node_port}]
        spec = {"type": "NodePort", "selector": dict(LABELS), "ports": ports}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": _named(name), "spec": spec})
    return found


def rollout(template: Object, image: str, *, replicas: int = 2) -> Object:
    """Blue/green with the pods of another workload's template, promoted as soon as the preview is ready."""
    (container,) = template["spec"]["containers"]
    pods = {
        "metadata": {"labels": dict(LABELS), "annotations": {}},
        "spec": {**template["spec"], "containers": [{**container, "image": image}]},
    }
    strategy = {
        "activeService": ACTIVE,
        "previewService": PREVIEW,
        "autoPromotionEnabled": True,
        "scaleDownDelaySeconds": 900,
        "postPromotionAnalysis": {"templates": [{"templateName": ANALYSIS}]},
    }
    spec = {
        "replicas": replicas, "minReadySeconds": 1, "progressDeadlineSeconds": 120, "revisionHistoryLimit": 3,
        "selector": {"matchLabels": dict(LABELS)}, "template": pods, "strategy": {"blueGreen": strategy},
    }  # fmt: skip
    return {"apiVersion": GROUP, "kind": "Rollout", "metadata": _named(NAME), "spec": spec}


def analysis(url: str, recorder: str, interval: str) -> Object:
    """Two sources, as our own watch has them: answers of the active Service, and the error tracker.

    An answer that is not 2xx is a sample without data to Argo, not a bad one; of the answers none may be missed.
    """
    answers = _metric(ANSWERS, f"{url}/health", "{$.status}", "result == 'ok'", interval, missed=0)
    tracker = _metric(TRACKER, f"{recorder}{TRACKER_PATH}", "{$}", "len(result) == 0", EVERY_SECOND, missed=MISSED)
    return {
        "apiVersion": GROUP, "kind": "AnalysisTemplate", "metadata": _named(ANALYSIS),
        "spec": {"metrics": [answers, tracker]},
    }  # fmt: skip


def _metric(name: str, url: str, path: str, good: str, interval: str, *, missed: int) -> Object:
    web = {"url": url, "headers": [NEW_CONNECTION], "timeoutSeconds": 2, "jsonPath": path}
    return {
        "name": name, "interval": interval, "count": MOST, "failureLimit": 0, "consecutiveErrorLimit": missed,
        "successCondition": good, "provider": {"web": web},
    }  # fmt: skip


def _named(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}
