"""Which pods stand behind a Service: its EndpointSlice, which the service proxy follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controller import Controller
from sandbox.cluster.kinds import POD, SERVICE, SLICE
from sandbox.cluster.objects import container_port, is_finished, is_ready, owner_reference
from sandbox.cluster.store import Change, Key, Object

NAME_LABEL = "kubernetes.io/service-name"


class Endpoints(Controller):
    kind, owns = SERVICE, SLICE

    def affected(self, change: Change) -> Iterable[Key]:
        if change.kind is SERVICE:
            yield change.key
        elif change.kind is POD:
            for service in self.store.objects(SERVICE, change.key[0]):
                if any(_selects(service, pod) for pod in (change.old, change.new) if pod):
                    yield change.key[0], service["metadata"]["name"]

    def reconcile(self, found: Object) -> None:
        meta = found["metadata"]
        pods = [
            pod
            for pod in self.store.objects(POD, meta["namespace"])
            if _selects(found, pod) and pod["status"].get("podIP") and not is_finished(pod)
        ]
        ports = _ports(found, pods[0]) if pods else []
        content = {"addressType": "IPv4", "endpoints": [_endpoint(pod) for pod in pods], "ports": ports}
        name = f"{meta['name']}-endpoints"
        if self.owned(found):
            self.registry.update(SLICE, meta["namespace"], name, lambda current: {**current, **content})
        else:
            labels = {**(meta.get("labels") or {}), NAME_LABEL: meta["name"]}
            about = {"name": name, "labels": labels, "ownerReferences": [owner_reference(SERVICE, found)]}
            self.registry.create(SLICE, meta["namespace"], {"metadata": about, **content})


def _selects(service: Object, pod: Object) -> bool:
    selector, labels = service["spec"].get("selector"), pod["metadata"].get("labels") or {}
    return bool(selector) and selector.items() <= labels.items()


def _ports(service: Object, pod: Object) -> list[Object]:
    """The Service's ports as numbers of the pod; a name that the pod does not have drops out."""
    found = ((port, container_port(pod, port["targetPort"])) for port in service["spec"]["ports"])
    return [{"name": port.get("name", ""), "port": number, "protocol": "TCP"} for port, number in found if number]


def _endpoint(pod: Object) -> dict[str, Any]:
    meta, ready = pod["metadata"], is_ready(pod)
    ending = "deletionTimestamp" in meta
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not ending, "serving": ready, "terminating": ending},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
    }
