"""Events: what happened to an object, for people. Repetitions are counted, not listed."""

from __future__ import annotations

from collections import OrderedDict

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import EVENT, Kind
from sandbox.cluster.registry import DeleteOptions, Registry, suffix, timestamp
from sandbox.cluster.store import Object

LARGEST_NUMBER = 1000


class Recorder:
    def __init__(self, registry: Registry, component: str) -> None:
        self._registry, self._component = registry, component
        self._names: OrderedDict[tuple[str, ...], str] = OrderedDict()  # what is repeated -> its event's name

    def event(self, kind: Kind, obj: Object, reason: str, message: str, *, warning: bool = False) -> None:
        meta = obj["metadata"]
        namespace = meta.get("namespace") or "default"
        same = (meta["uid"], reason, message)
        try:
            if same in self._names and self._registry.find(EVENT, namespace, self._names[same]):
                self._count(namespace, self._names[same])
            else:
                self._names[same] = self._create(kind, obj, namespace, reason, message, warning)
        except StatusError:
            return  # the namespace is on its way out: nobody will miss the event
        if len(self._names) > LARGEST_NUMBER:
            self._names.popitem(last=False)
            self._drop_oldest()

    def _count(self, namespace: str, name: str) -> None:
        def again(event: Object) -> Object:
            event["count"] += 1
            event["lastTimestamp"] = timestamp()
            return event

        self._registry.update(EVENT, namespace, name, again)

    def _create(self, kind: Kind, obj: Object, namespace: str, reason: str, message: str, warning: bool) -> str:
        meta, moment = obj["metadata"], timestamp()
        event = {
            "metadata": {"name": f"{meta['name'][:200]}.{suffix(16)}"},
            "involvedObject": {
                "kind": kind.name,
                "apiVersion": kind.api_version,
                "namespace": meta.get("namespace", ""),
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion", ""),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        return str(self._registry.create(EVENT, namespace, event)["metadata"]["name"])

    def _drop_oldest(self) -> None:
        events = self._registry.store.objects(EVENT)
        oldest = min(events, key=lambda event: event.get("lastTimestamp") or "", default=None)
        if oldest and len(events) > LARGEST_NUMBER:
            self._registry.delete(EVENT, oldest["metadata"]["namespace"], oldest["metadata"]["name"], DeleteOptions())
