"""Events: what happened to an object, for people. Repetitions are counted, not listed."""

from __future__ import annotations

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import EVENT, Kind
from sandbox.cluster.objects import suffix, timestamp
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Object


class Recorder:
    def __init__(self, registry: Registry, component: str) -> None:
        self._registry, self._component = registry, component
        self._names: dict[tuple[str, ...], str] = {}  # what is repeated -> its event's name

    def event(self, kind: Kind, obj: Object, reason: str, message: str, *, warning: bool = False) -> None:
        meta = obj["metadata"]
        same = (meta["uid"], reason, message)
        try:
            if same in self._names and self._registry.find(EVENT, meta["namespace"], self._names[same]):
                self._registry.update(EVENT, meta["namespace"], self._names[same], _again)
            else:
                self._names[same] = self._create(kind, obj, reason, message, warning)
        except StatusError:
            return  # the namespace is gone: nobody will miss the event

    def _create(self, kind: Kind, obj: Object, reason: str, message: str, warning: bool) -> str:
        meta, moment = obj["metadata"], timestamp()
        event = {
            "metadata": {"name": f"{meta['name'][:200]}.{suffix(16)}"},
            "involvedObject": {
                "kind": kind.name, "apiVersion": kind.api_version, "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"],
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": self._component},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }  # fmt: skip
        return str(self._registry.create(EVENT, meta["namespace"], event)["metadata"]["name"])


def _again(event: Object) -> Object:
    return {**event, "count": event["count"] + 1, "lastTimestamp": timestamp()}
