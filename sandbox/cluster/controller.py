"""A controller: changes name keys, keys are reconciled one by one, failures are tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from sandbox.cluster.errors import StatusError
from sandbox.cluster.events import record
from sandbox.cluster.kinds import POD, Kind
from sandbox.cluster.objects import controller, owner_reference
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Change, Key, Object

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


class Controller:
    """Makes what is follow what should be, for the objects of `kind`, by way of the objects of `owns`."""

    kind: Kind
    owns: Kind

    def __init__(self, registry: Registry) -> None:
        self.registry, self.store = registry, registry.store
        self._queue: dict[Key, None] = {}  # a set that keeps its order
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self.store.subscribe(self._changed)

    def affected(self, change: Change) -> Iterable[Key]:
        """The keys to look at after a change: an object itself, or the owner of one it owns."""
        if change.kind is self.kind:
            yield change.key
        elif change.kind is self.owns:
            for owner in (controller(obj) for obj in (change.old, change.new) if obj):
                if owner.get("kind") == self.kind.name:
                    yield change.key[0], owner["name"]

    def reconcile(self, found: Object) -> None:
        """Bring one object closer to its spec. Synchronous: nothing changes meanwhile."""
        raise NotImplementedError

    def again(self, obj: Object, seconds: float) -> None:
        """Look at it once more, later; the earliest of several wishes wins."""
        key, seconds = (obj["metadata"]["namespace"], obj["metadata"]["name"]), max(seconds, 0.05)
        loop, known = asyncio.get_running_loop(), self._timers.get(key)
        if known is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._timers[key] = loop.call_later(seconds, self._wake, key)

    def _wake(self, key: Key) -> None:
        del self._timers[key]
        self._enqueue(key)

    def _changed(self, change: Change) -> None:
        for key in self.affected(change):
            self._enqueue(key)

    def _enqueue(self, key: Key) -> None:
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._drain)
        self._queue[key] = None

    def _drain(self) -> None:
        while self._queue:
            key = next(iter(self._queue))
            del self._queue[key]  # first, so that what changes meanwhile brings it back
            found = self.store.get(self.kind, key)
            if found is None:
                continue
            try:
                self.reconcile(found)
            except Exception as error:
                if not isinstance(error, StatusError):
                    log.exception("%s %s", self.kind.name, key)
                self.again(found, RETRY_SECONDS)

    def owned(self, owner: Object) -> list[Object]:
        meta = owner["metadata"]
        found = self.store.objects(self.owns, meta["namespace"])
        return [obj for obj in found if controller(obj).get("uid") == meta["uid"]]

    def create_pod(self, owner: Object) -> Object:
        """A pod from the owner's template."""
        meta, template = owner["metadata"], owner["spec"]["template"]
        about = {
            **{field: template["metadata"].get(field) for field in ("labels", "annotations")},
            "generateName": f"{meta['name']}-",
            "ownerReferences": [owner_reference(self.kind, owner)],
        }
        pod = self.registry.create(POD, meta["namespace"], {"metadata": about, "spec": template["spec"]})
        record(self.registry, self.kind, owner, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return pod
