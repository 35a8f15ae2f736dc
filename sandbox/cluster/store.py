"""Objects, their versions and the history of changes that watches resume from.

Stored objects are never changed in place: who wants a change copies, changes and puts. So lists and watch events
can share them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import Kind

Object = dict[str, Any]
Key = tuple[str, str]  # namespace ("" for what has none), name


@dataclass(frozen=True, slots=True)
class Change:
    """One step of history. `old` lets a watch with a selector see an object leave or enter its view."""

    kind: Kind
    key: Key
    version: int
    old: Object | None
    new: Object | None


class Store:
    def __init__(self, history: int = 4096, first_version: int = 1) -> None:
        self.version = first_version
        self._forgotten = first_version  # changes up to here are no longer in the history
        self._objects: dict[Kind, dict[Key, Object]] = {}
        self._history: deque[Change] = deque()
        self._keep = history
        self._untold: deque[Change] = deque()
        self._listeners: list[Callable[[Change], None]] = []

    def get(self, kind: Kind, key: Key) -> Object | None:
        return self._objects.get(kind, {}).get(key)

    def objects(self, kind: Kind, namespace: str = "") -> list[Object]:
        """In the order of namespace and name; all namespaces without one."""
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def put(self, kind: Kind, key: Key, new: Object) -> Object:
        """Store `new` under the next version. The caller gives up the object."""
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        objects = self._objects.setdefault(kind, {})
        old = objects.get(key)
        objects[key] = new
        self._record(Change(kind, key, self.version, old, new))
        return new

    def remove(self, kind: Kind, key: Key) -> Object:
        """Take the object out; a deletion has a version of its own, which the last event shows."""
        self.version += 1
        old = self._objects[kind].pop(key)
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._record(Change(kind, key, self.version, last, None))
        return last

    def since(self, version: int) -> Iterator[Change]:
        """The changes after `version`, oldest first; 410 when they are no longer, or not yet, known."""
        if version < self._forgotten or version > self.version:
            message = f"too old resource version: {version} ({self._forgotten})"
            raise StatusError(410, "Expired", message)
        return (change for change in self._history if change.version > version)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` at every change from now on, in order; returns how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _record(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > self._keep:
            self._forgotten = self._history.popleft().version
        self._untold.append(change)
        if len(self._untold) > 1:
            return  # a listener made this change: it is told after the one that is being told
        while self._untold:
            for listener in tuple(self._listeners):
                listener(self._untold[0])
            self._untold.popleft()
