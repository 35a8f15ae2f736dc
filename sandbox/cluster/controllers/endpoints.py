"""Which pods stand behind a Service: EndpointSlice for the proxy, Endpoints for whoever still reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.kinds import ENDPOINTS, POD, SERVICE, SLICE, Kind
from sandbox.cluster.kubelet import NODE_NAME
from sandbox.cluster.pods import container_port, is_finished, is_ready
from sandbox.cluster.registry import owner_reference
from sandbox.cluster.store import Change, Key, Object

NAME_LABEL = "kubernetes.io/service-name"


class EndpointsController(Controller):
    name = "endpoint-slice-controller"

    def affected(self, change: Change) -> Iterable[Key]:
        if change.kind is SERVICE:
            yield change.key
        elif change.kind is POD:
            labels = [obj["metadata"].get("labels") or {} for obj in (change.old, change.new) if obj]
            for service in self.store.objects(SERVICE, change.key[0]):
                if any(_selects(service, one) for one in labels):
                    yield change.key[0], service["metadata"]["name"]

    def reconcile(self, key: Key) -> None:
        service = self.store.get(SERVICE, key)
        if service is None or not service["spec"].get("selector"):
            return  # the collector removes what a deleted Service owned
        pods = [
            pod
            for pod in self.store.objects(POD, key[0])
            if _selects(service, pod["metadata"].get("labels") or {})
            and pod["status"].get("podIP")
            and not is_finished(pod)
        ]
        anyway = bool(service["spec"].get("publishNotReadyAddresses"))
        self._put(SLICE, service, f"{key[1]}-endpoints", _slice(service, pods, anyway))
        self._put(ENDPOINTS, service, key[1], _endpoints(service, pods, anyway))

    def _put(self, kind: Kind, service: Object, name: str, content: Object) -> None:
        namespace = service["metadata"]["namespace"]
        labels = {**(service["metadata"].get("labels") or {}), NAME_LABEL: service["metadata"]["name"]}
        found = self.registry.find(kind, namespace, name)
        if found is None or found["metadata"]["ownerReferences"][0]["uid"] != service["metadata"]["uid"]:
            if found is not None:
                self.registry.delete(kind, namespace, name)
            meta = {"name": name, "labels": labels, "ownerReferences": [owner_reference(SERVICE, service)]}
            self.registry.create(kind, namespace, {"metadata": meta, **content})
        else:
            self.registry.update(kind, namespace, name, lambda current: {**current, **content})


def _selects(service: Object, labels: dict[str, str]) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def _ports(service: Object, pod: Object | None) -> list[Object]:
    """The Service's ports as numbers of the pod; a name that the pod does not have drops out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = container_port(pod, port["targetPort"]) if pod else None
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port["protocol"]})
    return found


def _target(pod: Object) -> Object:
    meta = pod["metadata"]
    return {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}


def _slice(service: Object, pods: list[Object], anyway: bool) -> Object:
    endpoints: list[dict[str, Any]] = []
    for pod in pods:
        ending, ready = bool(pod["metadata"].get("deletionTimestamp")), is_ready(pod)
        endpoints.append(
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": anyway or (ready and not ending), "serving": ready, "terminating": ending},
                "nodeName": NODE_NAME,
                "targetRef": _target(pod),
            }
        )
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": _ports(service, pods[0] if pods else None)}


def _endpoints(service: Object, pods: list[Object], anyway: bool) -> Object:
    ports = _ports(service, pods[0] if pods else None)
    subset: dict[str, Any] = {"addresses": [], "notReadyAddresses": [], "ports": ports}
    for pod in pods:
        ready = anyway or (is_ready(pod) and not pod["metadata"].get("deletionTimestamp"))
        entry = {"ip": pod["status"]["podIP"], "nodeName": NODE_NAME, "targetRef": _target(pod)}
        subset["addresses" if ready else "notReadyAddresses"].append(entry)
    return {"subsets": [{field: value for field, value in subset.items() if value}] if pods else []}
